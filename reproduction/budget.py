"""How many epochs fit into the time there is: measured steps, and one schedule for all runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np

from taclnet_jax.data import training_samples, training_volume
from taclnet_jax.data.loader import Batch, WindowLoader
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import Runs, split_sections, targets_of
from taclnet_jax.evaluation.evaluate import score
from taclnet_jax.evaluation.thresholds import choose_cuts, choose_threshold
from taclnet_jax.inference.cut import fixed_cuts, map_of
from taclnet_jax.inference.sections import (
    Inference,
    SectionPrediction,
    create_inference,
    predict_sections,
)
from taclnet_jax.models import create_model
from taclnet_jax.training import parallel
from taclnet_jax.training.state import TrainState, create_optimizer, create_train_state
from taclnet_jax.training.step import Step, create_step


class Costs(NamedTuple):
    """What a run takes, in seconds.

    Attributes:
        fixed: compilation and the evaluation at the end.
        epochs: an epoch of phase one and of phase two, with its share of validation.
    """

    fixed: float
    epochs: tuple[float, float]

    def seconds(self, schedule: Mapping[str, Any]) -> float:
        """Of a run with this schedule."""
        one, two = self.epochs
        return self.fixed + schedule['phase_one.epochs'] * one + schedule['phase_two.epochs'] * two

    def without_phase_one(self) -> Costs:
        """Of a run that goes on from another one's phase one."""
        return self._replace(epochs=(0.0, self.epochs[1]))


def measure_costs(config: Any, volume: Volume) -> Costs:
    """Times a few steps and sections of a run on this machine.

    Args:
        config: of the run.
        volume: that it trains on.
    """
    train, validation, test = split_sections(config, volume.parts)
    seen = training_volume(config, volume)
    samples = training_samples(config, seen, train)
    loader = WindowLoader(
        seen, samples, config.slices, config.batch_size, config.seed, config.augment
    )
    batch = loader.batch(0, 0)
    # A memory of this batch's samples alone.
    batch['sample_id'] = np.arange(config.batch_size, dtype=np.int32)
    model, optimizer = create_model(config), create_optimizer(config, loader.steps_per_epoch)
    state = create_train_state(config, model, optimizer, config.batch_size)
    compile_seconds, step_seconds = 0.0, []
    for phase_two in (False, True):
        step = create_step(config, model, optimizer, phase_two)
        first, later = _time_steps(step, state, batch)
        compile_seconds += first
        step_seconds.append(later)
    chooses = config.evaluate.threshold_from != 'fixed'

    def validate(prediction: SectionPrediction) -> None:
        if chooses:
            choose_threshold(volume, {prediction.section: prediction.prob})
        score(config, volume, prediction.section, prediction.prob, fixed_cuts(config)['P'])

    def evaluate(prediction: SectionPrediction) -> None:
        cuts = choose_cuts(volume, [prediction]) if chooses else fixed_cuts(config)
        for name, cut in cuts.items():
            score(config, volume, prediction.section, map_of(prediction, name), cut)

    plain = create_inference(config, model)
    first, section_seconds = _time_sections(plain, state.params, volume, test, validate)
    infer = create_inference(config, model, config.evaluate.views)
    views_first, views_seconds = _time_sections(infer, state.params, volume, test, evaluate)
    limit = config.evaluate.threshold_sections
    validations = len(targets_of(validation, limit)) / config.evaluate.every_epochs
    scored = len(targets_of(test, config.evaluate.test_sections))
    if config.evaluate.threshold_from != 'fixed':
        scored += len(targets_of((*train, *validation), limit))
    one, two = (
        loader.steps_per_epoch * seconds + validations * section_seconds for seconds in step_seconds
    )
    fixed = compile_seconds + first + views_first + scored * views_seconds
    return Costs(fixed, (one, two))


def fitting_schedule(
    schedule: Mapping[str, Any], runs: Sequence[Costs], seconds: float
) -> dict[str, Any]:
    """The longest schedule, up to the given one, with which all runs fit into the time.

    The two phases keep their proportion, and each at least one epoch if it has any.

    Args:
        schedule: settings of `reproduction.results.SCHEDULE`.
        runs: what each takes.
        seconds: for all of them.
    """
    longest = max(schedule['phase_one.epochs'], schedule['phase_two.epochs'])
    scaled = dict(schedule)
    for length in range(longest, 0, -1):
        scaled = {key: math.ceil(value * length / longest) for key, value in schedule.items()}
        if sum(costs.seconds(scaled) for costs in runs) <= seconds:
            break
    return scaled


def _time_steps(step: Step, state: TrainState, batch: Batch) -> tuple[float, float]:
    """(first, later) seconds of a training step; the first one compiles."""
    state = state.to_devices()
    times = []
    for _ in range(4):
        start = time.perf_counter()
        state, output = step(state, parallel.shard(batch))
        jax.block_until_ready((state, output))
        times.append(time.perf_counter() - start)
    return times[0], median(times[1:])


def _time_sections(
    infer: Inference,
    params: Any,
    volume: Volume,
    runs: Runs,
    scoring: Callable[[SectionPrediction], None],
) -> tuple[float, float]:
    """(first, later) seconds of predicting and scoring a section; the first one compiles."""
    times = []
    start = time.perf_counter()
    for prediction in predict_sections(infer, params, volume.image, targets_of(runs)[:2]):
        scoring(prediction)
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
    return times[0], times[-1]
