"""Training in two phases: the network alone, then with STA and ITA."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from clu import parameter_overview

from taclnet_jax import figures
from taclnet_jax.config import check_config
from taclnet_jax.data import load_volume, training_samples, training_volume
from taclnet_jax.data.loader import WindowLoader
from taclnet_jax.data.windows import balanced_weights, split_sections
from taclnet_jax.errors import InputError, Interrupted
from taclnet_jax.evaluation.evaluate import evaluate, validate
from taclnet_jax.inference.sections import create_inference
from taclnet_jax.models import create_model
from taclnet_jax.training import parallel
from taclnet_jax.training.checkpoints import Checkpoints
from taclnet_jax.training.reporting import Reporter, read_metrics
from taclnet_jax.training.setup import check_devices, check_memory, start_from
from taclnet_jax.training.state import TrainState, create_optimizer, create_train_state
from taclnet_jax.training.step import Step, create_step, time_topology
from taclnet_jax.training.workdir import open_workdir


def train_and_evaluate(config: Any, workdir: str) -> TrainState:
    """Trains, or goes on training, then evaluates the best checkpoint.

    Args:
        config: as `taclnet_jax.config.get_config` makes it.
        workdir: folder of checkpoints, metrics, pictures and results; a run that was interrupted
            there goes on.

    Returns:
        The final state, on the host.

    Raises:
        InputError: settings, data or workdir cannot be used.
        Interrupted: SIGTERM or SIGINT came.
    """
    # --- Settings, data, network.
    check_config(config)
    check_devices(config)
    volume = load_volume(config)
    train_runs, validation_runs, _ = split_sections(config, volume.parts)
    seen = training_volume(config, volume)
    samples = training_samples(config, seen, train_runs)
    check_memory(config, len(samples))
    if config.batch_size > len(samples):
        raise InputError(
            f'Expected config.batch_size to be at most {len(samples)}, the number of training '
            f'crops; found {config.batch_size}. Use smaller batches or smaller crops.'
        )
    loader = WindowLoader(
        seen,
        samples,
        config.slices,
        config.batch_size,
        config.seed,
        config.augment,
        balanced_weights(seen, samples) if config.crops_balanced else None,
    )
    per_epoch = loader.steps_per_epoch
    epochs = config.phase_one.epochs + config.phase_two.epochs
    model = create_model(config)
    optimizer = create_optimizer(config, per_epoch)
    infer = create_inference(config, model)

    # --- State: of this run's last checkpoint, of another run's phase one, or new.
    new = create_train_state(config, model, optimizer, len(samples))
    # Read before the workdir is made, so that a mistake leaves none behind; a run that goes on
    # from its own checkpoint does not need the other any more.
    begun = (Path(workdir) / 'checkpoints').exists()
    other = None if begun else start_from(config, new)
    folder = open_workdir(config, workdir)
    checkpoints = Checkpoints(folder, config)
    state = checkpoints.restore_last(new) or other or start_from(config, new) or new
    first_step = int(state.step)
    with (
        Reporter(folder, first_step, epochs * per_epoch) as reporter,
        stop_signals() as signals,
    ):
        if first_step == 0:
            reporter.print(parameter_overview.get_parameter_overview(state.params))
        else:
            reporter.print(f'Going on from step {first_step} of {epochs * per_epoch}.')
        state = state.to_devices()

        # --- Epochs.
        step_fn = None
        for epoch in range(first_step // per_epoch, epochs):
            phase_two = epoch >= config.phase_one.epochs
            if step_fn is None or epoch == config.phase_one.epochs:
                step_fn = create_step(config, model, optimizer, phase_two)
            first = max(first_step - epoch * per_epoch, 0)
            state, measured = train_epoch(
                config, step_fn, state, loader, epoch, first, reporter, signals
            )
            host = state.to_host(len(samples))
            step, last = int(host.step), epoch == epochs - 1

            # --- Validation, unless a signal came in the middle of the epoch.
            scores: dict[str, float] = {}
            if step == (epoch + 1) * per_epoch:
                if validation_runs and (last or (epoch + 1) % config.evaluate.every_epochs == 0):
                    scores, picture = validate(config, infer, host.params, volume, validation_runs)
                    reporter.image(step, 'attention', picture)
                reporter.metrics(
                    step,
                    {'epoch': epoch + 1, 'phase': 1 + phase_two}
                    | measured
                    | {f'validation/{key}': value for key, value in scores.items()},
                )
                if epoch == config.phase_one.epochs - 1:
                    checkpoints.save_phase_one(host)

            # --- Checkpoint.
            if signals or last or (epoch + 1) % config.checkpoint.every_epochs == 0:
                in_last_phase = phase_two or config.phase_two.epochs == 0
                checkpoints.save(host, scores if scores and in_last_phase else None)
            if signals:
                checkpoints.close()
                raise Interrupted(
                    signals[0],
                    f'Stopped at step {step} of {epochs * per_epoch}, and saved. Start the same '
                    'command again to go on.',
                )
        checkpoints.wait()

    # --- Result.
    figures.training_curves(folder / 'curves.png', read_metrics(folder / 'metrics.jsonl'))
    step, params = checkpoints.restore_best_params()
    checkpoints.close()
    evaluate(config, model, params, step, volume, folder)
    print(f'Training curves: {folder / "curves.png"}')
    return state.to_host(len(samples))


def train_epoch(
    config: Any,
    step_fn: Step,
    state: TrainState,
    loader: WindowLoader,
    epoch: int,
    first: int,
    reporter: Reporter,
    signals: list[int],
) -> tuple[TrainState, dict[str, float]]:
    """Steps `first` and on of an epoch, or those until a signal comes.

    Returns:
        (state, the epoch's mean loss and its times per step in ms).
    """
    phase_two = epoch >= config.phase_one.epochs
    if phase_two and first == 0 and state.memory is not None:
        state = state.replace(memory=state.memory.begin_epoch())
    losses: list[jax.Array] = []
    running: deque[float] = deque(maxlen=20)
    start = None
    batches = loader.epoch(epoch, first, displace=not phase_two)
    with batches:
        for batch in batches:
            state, output = step_fn(state, parallel.shard(batch))
            losses.append(output['loss'])
            # The loss of the step before: waiting for this one would keep the device idle.
            running.append(float(losses[max(len(losses) - 2, 0)][0]))
            reporter.step(f'phase {1 + phase_two}, epoch {epoch + 1}', float(np.mean(running)))
            if start is None:  # The first step compiles.
                start, waited, timed = time.perf_counter(), batches.seconds_waited, 0
            else:
                timed += 1
            if signals:
                break
    loss = float(np.mean([np.asarray(x)[0] for x in losses]))
    measured = {'train/loss': loss}
    if start is not None and timed:
        step_ms = (time.perf_counter() - start) / timed * 1e3
        measured |= {
            'time/step_ms': step_ms,
            'time/data_ms': (batches.seconds_waited - waited) / timed * 1e3,
        }
        if phase_two and config.attention.kind != 'none' and not signals:
            measured |= time_topology(config, output['prob'])
            parts = measured['time/persistence_ms'] + measured['time/attention_ms']
            measured['time/network_ms'] = step_ms - measured['time/data_ms'] - parts
    return state, measured


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
