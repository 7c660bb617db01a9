"""Training in two phases: the network alone, then with STA and ITA."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from clu import parameter_overview

from taclnet_jax.cores import hardware
from taclnet_jax.errors import Interrupted
from taclnet_jax.losses import LOSSES
from taclnet_jax.training import parallel
from taclnet_jax.training.reporting import Reporter, Silence, read_metrics
from taclnet_jax.training.setup import Training, opened
from taclnet_jax.training.state import EpochLoss, TrainState
from taclnet_jax.training.step import Step, time_topology
from taclnet_jax.training.watch import Watch, constant_loss, warning_of

Validate = Callable[[Any], tuple[dict[str, float], np.ndarray]]
"""From the network's variables to scores by name and a picture `[height, width, 3]` uint8."""


def train(training: Training, workdir: str | Path, validate: Validate | None = None) -> TrainState:
    """Trains, or goes on training.

    Args:
        training: of `prepare`.
        workdir: folder of checkpoints and metrics; a run that was interrupted there goes on.
        validate: scores the network, every `config.evaluate.every_epochs` and in the end.

    Returns:
        The final state, on the host.

    Raises:
        InputError: the workdir cannot be used, or too many steps were skipped in a row because
            their loss or gradient was not finite.
        Interrupted: SIGTERM or SIGINT came.
    """
    settings, loader = training.settings, training.loader
    folder, per_epoch, samples = Path(workdir), loader.steps_per_epoch, len(loader.samples)
    with opened(training, folder) as (checkpoints, state):
        first_step = int(state.step)
        with (
            closing(
                Reporter(folder, first_step, training.steps) if parallel.is_first() else Silence()
            ) as reporter,
            stop_signals() as signals,
        ):
            if first_step == 0:
                reporter.print(parameter_overview.get_parameter_overview(state.variables['params']))
            elif first_step < training.steps:
                reporter.print(f'Going on from step {first_step} of {training.steps}.')
            reporter.print(f'Devices: {hardware()}, of {jax.process_count()} process(es).')
            state = state.to_devices()

            step_fn, watch = None, Watch(loader.samples)
            constant = cache(partial(loss_of_a_constant, training))
            for epoch in range(first_step // per_epoch, training.epochs):
                phase_two = training.is_phase_two(epoch)
                if step_fn is None or phase_two != training.is_phase_two(epoch - 1):
                    step_fn = training.create_step(phase_two)
                first = max(first_step - epoch * per_epoch, 0)
                state, times = train_epoch(
                    training, step_fn, state, epoch, first, reporter, watch, signals
                )
                host = state.to_host(samples)
                step, last = int(host.step), epoch == training.epochs - 1

                # --- Validation, unless a signal came in the middle of the epoch.
                if step == (epoch + 1) * per_epoch:
                    scores: dict[str, float] = {}
                    if validate and (last or (epoch + 1) % settings.evaluate.every_epochs == 0):
                        scores, picture = validate(host.final)
                        reporter.image(step, 'attention', picture)
                    reporter.metrics(
                        step,
                        {
                            'epoch': epoch + 1,
                            'phase': 1 + phase_two,
                            'train/loss': host.losses.mean,
                            'train/skipped_steps': int(host.losses.skipped),
                        }
                        | times
                        | {f'validation/{key}': value for key, value in scores.items()},
                    )
                    if epoch == settings.training.phase_one.epochs - 1:
                        checkpoints.save_phase_one(host)
                    if scores and (phase_two or settings.training.phase_two.epochs == 0):
                        checkpoints.offer(host, scores)
                    # The first validation may come before anything could be learnt.
                    if last or (scores and epoch >= settings.evaluate.every_epochs):
                        warning = warning_of(host.losses, epoch + 1, constant(phase_two))
                        if warning:
                            reporter.print(warning)

                # --- Checkpoint; a signal may have come to one process, or while it validated.
                stopped = parallel.of_any(signals[0] if signals else 0)
                if stopped or last or (epoch + 1) % settings.checkpoint.every_epochs == 0:
                    checkpoints.save(host)
                if stopped:
                    raise Interrupted(
                        stopped,
                        f'Stopped at step {step} of {training.steps}, and saved. Start the same '
                        'command again to go on.',
                    )
    from taclnet_jax import figures  # matplotlib, for which the first step need not wait

    if parallel.is_first():
        figures.training_curves(folder / 'curves.png', read_metrics(folder / 'metrics.jsonl'))
    return state.to_host(samples)


def train_epoch(
    training: Training,
    step_fn: Step,
    state: TrainState,
    epoch: int,
    first: int,
    reporter: Reporter | Silence,
    watch: Watch,
    signals: list[int],
) -> tuple[TrainState, dict[str, float]]:
    """Steps `first` and on of an epoch, or until a signal; the state, and times in ms."""
    phase_two = training.is_phase_two(epoch)
    if first == 0:
        state = state.replace(losses=parallel.replicate(EpochLoss.create()))
        if phase_two and state.memory is not None:
            state = state.replace(memory=state.memory.begin_epoch())
    start, step = None, epoch * training.loader.steps_per_epoch + first
    batches = training.loader.epoch(epoch, first, displace=not phase_two)
    several = jax.process_count() > 1
    with batches:
        for batch in batches:
            if several:
                batch['stop'] = np.full(len(batch['sample_id']), bool(signals))
            state, output = step_fn(state, parallel.shard(batch))
            step += 1
            watch.see(step, output, batch['sample_id'])
            reporter.step(f'phase {1 + phase_two}, epoch {epoch + 1}', watch.mean)
            if start is None:  # The first step compiles.
                jax.block_until_ready(output)
                start, waited, timed = time.perf_counter(), batches.seconds_waited, 0
            else:
                timed += 1
            if watch.stop or (signals and not several):
                break
    watch.wait()
    times = {}
    if start is not None and timed:
        step_ms = (time.perf_counter() - start) / timed * 1e3
        times = {
            'time/step_ms': step_ms,
            'time/data_ms': (batches.seconds_waited - waited) / timed * 1e3,
        }
        attention = training.settings.attention
        if phase_two and attention.kind != 'none' and not signals:
            times |= time_topology(output['prob'].addressable_data(0), attention)
            parts = times['time/persistence_ms'] + times['time/attention_ms']
            times['time/network_ms'] = step_ms - times['time/data_ms'] - parts
    return state, times


def loss_of_a_constant(training: Training, phase_two: bool) -> float:
    """What the same probability everywhere costs; infinite where more comes on top of the loss."""
    settings, loader = training.settings.losses, training.loader
    if phase_two and (settings.topological_loss.weight or settings.perceptual_loss.weight):
        return math.inf
    return constant_loss(LOSSES[settings.loss], loader.volume, loader.samples)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Within it SIGTERM and SIGINT are noted in the list instead of ending the process.

    A second one of the same kind ends it.
    """
    received: list[int] = []

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, before[number])

    before: dict[int, Any] = {
        number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
