"""How many epochs fit into the time there is: measured steps, and one schedule for all runs."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import jax

from taclnet_jax.data.loader import Batch
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import targets_of
from taclnet_jax.evaluation.scoring import score
from taclnet_jax.evaluation.thresholds import choose_cuts, choose_threshold
from taclnet_jax.inference import SectionPrediction, create_inference, predict_sections
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
        origin: which of the runs makes its phase one; None if it does so itself.
    """

    fixed: float
    epochs: tuple[float, float]
    origin: int | None = None

    def phase_one(self, schedule: Mapping[str, Any]) -> float:
        """Of phase one with this schedule."""
        return schedule['phase_one.epochs'] * self.epochs[0] if self.origin is None else 0.0

    def seconds(self, schedule: Mapping[str, Any]) -> float:
        """Of a run with this schedule."""
        later = schedule['phase_two.epochs'] * self.epochs[1]
        return self.fixed + self.phase_one(schedule) + later


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
        first, later = time_steps(training.create_step(phase_two), training.new, batch)
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
        targets = targets_of(split.test)[:2]
        predicted = predict_sections(infer, training.new.variables, volume.image, targets)
        seconds = seconds_of_sections(predicted, scoring)
        return seconds[0], seconds[-1]

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
    schedule: Mapping[str, Any], runs: Sequence[Costs], seconds: float, jobs: int = 1
) -> dict[str, Any]:
    """The longest schedule, up to the given one, with which all runs fit into the time.

    The two phases keep their proportion, and each at least one epoch if it has any.

    Args:
        schedule: settings of `reproduction.results.SCHEDULE`.
        runs: what each takes.
        seconds: for all of them.
        jobs: how many are made side by side.
    """
    longest = max(schedule['phase_one.epochs'], schedule['phase_two.epochs'])
    scaled = dict(schedule)
    for length in range(longest, 0, -1):
        scaled = {key: math.ceil(value * length / longest) for key, value in schedule.items()}
        if needed_seconds(runs, scaled, jobs) <= seconds:
            break
    return scaled


def needed_seconds(runs: Sequence[Costs], schedule: Mapping[str, Any], jobs: int = 1) -> float:
    """Until the last of the runs has ended, so many side by side and started in their order."""
    free = [0.0] * jobs
    phase_one_ends: list[float] = []
    for costs in runs:
        start = heapq.heappop(free)
        if costs.origin is not None:
            start = max(start, phase_one_ends[costs.origin])
        phase_one_ends.append(start + costs.phase_one(schedule))
        heapq.heappush(free, start + costs.seconds(schedule))
    return max(free)


def time_steps(step: Step, state: TrainState, batch: Batch) -> tuple[float, float]:
    """(first, later) seconds of a training step; the first one compiles."""
    state = state.to_devices()
    times = []
    for _ in range(4):
        start = time.perf_counter()
        state, output = step(state, parallel.shard(batch))
        jax.block_until_ready((state, output))
        times.append(time.perf_counter() - start)
    return times[0], median(times[1:])


def seconds_of_sections(
    predicted: Iterable[SectionPrediction],
    scoring: Callable[[SectionPrediction], object] = lambda prediction: None,
) -> list[float]:
    """What it takes to predict and score each section; the first one compiles."""
    times, start = [], time.perf_counter()
    for prediction in predicted:
        scoring(prediction)
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
    return times
