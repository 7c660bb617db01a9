"""How many epochs fit into the time there is: measured steps, and one schedule for all runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import jax

from taclnet_jax.data.loader import Batch
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import Stretches, targets_of
from taclnet_jax.evaluation.scoring import score
from taclnet_jax.evaluation.thresholds import choose_cuts, choose_threshold
from taclnet_jax.inference import (
    Inference,
    SectionPrediction,
    create_inference,
    predict_sections,
)
from taclnet_jax.inference.cut import fixed_cuts, map_of
from taclnet_jax.training import parallel
from taclnet_jax.training.setup import prepare
from taclnet_jax.training.state import TrainState
from taclnet_jax.training.step import Step


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
    training = prepare(config, volume)
    settings, split = training.settings.evaluate, training.split
    batch = training.loader.batch(0, 0)
    compile_seconds, step_seconds = 0.0, []
    for phase_two in (False, True):
        first, later = _time_steps(training.create_step(phase_two), training.new, batch)
        compile_seconds += first
        step_seconds.append(later)
    chooses = settings.threshold_from != 'fixed'
    fixed = fixed_cuts(settings.threshold)

    def validate(prediction: SectionPrediction) -> None:
        if chooses:
            choose_threshold(volume, {prediction.section: prediction.prob})
        score(settings, volume, prediction.section, prediction.prob, fixed['P'])

    def evaluate(prediction: SectionPrediction) -> None:
        cuts = choose_cuts(volume, [prediction]) if chooses else fixed
        for name, cut in cuts.items():
            score(settings, volume, prediction.section, map_of(prediction, name), cut)

    def time_sections(
        views: int, scoring: Callable[[SectionPrediction], None]
    ) -> tuple[float, float]:
        options = training.settings.inference_options
        infer = create_inference(training.network, views=views, **options)
        return _time_sections(infer, training.new.params, volume, split.test, scoring)

    first, section_seconds = time_sections(1, validate)
    views_first, views_seconds = time_sections(settings.views, evaluate)
    limit = settings.threshold_sections
    validations = len(targets_of(split.validation, limit)) / settings.every_epochs
    scored = len(targets_of(split.test, settings.test_sections))
    if chooses:
        scored += len(targets_of((*split.train, *split.validation), limit))
    one, two = (
        training.loader.steps_per_epoch * seconds + validations * section_seconds
        for seconds in step_seconds
    )
    fixed_seconds = compile_seconds + first + views_first + scored * views_seconds
    return Costs(fixed_seconds, (one, two))


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
    stretches: Stretches,
    scoring: Callable[[SectionPrediction], None],
) -> tuple[float, float]:
    """(first, later) seconds of predicting and scoring a section; the first one compiles."""
    times = []
    start = time.perf_counter()
    for prediction in predict_sections(infer, params, volume.image, targets_of(stretches)[:2]):
        scoring(prediction)
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
    return times[0], times[-1]
