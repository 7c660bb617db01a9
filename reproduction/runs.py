"""Makes the runs of the tables that are missing, one after the other or side by side."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from reproduction.jobs import Jobs
from reproduction.progress import Progress, say
from reproduction.results import (
    content_of,
    other_settings,
    read_results,
    run_of,
    run_result,
    write_result,
)
from reproduction.schedule import choose_schedule, same_phase_one
from reproduction.systems import ALL_SLICES, BACKBONES, SLICES, SYSTEMS, Run, run_config
from taclnet_jax.config import read_settings, run_settings
from taclnet_jax.data import load_volume
from taclnet_jax.errors import InputError, Interrupted
from taclnet_jax.files import write_text
from taclnet_jax.main import train_and_evaluate

Plan = dict[Run, ConfigDict]
"""The configuration of each run that is to be made, in order."""


def planned_runs(
    table: int,
    dataset: str,
    systems: Sequence[str] | None,
    folds: Sequence[int],
    seeds: Sequence[int],
) -> list[Run]:
    """The runs of a table in the order in which they are made: all systems of a fold first.

    Args:
        table: 1, 2 or 3.
        dataset: the data set.
        systems: names of `SYSTEMS`; None for those of the table.
        folds, seeds: in this order.
    """
    of_table = {
        1: tuple(SYSTEMS),
        2: tuple(name for names in BACKBONES.values() for name in names),
        3: ('taclnet',),
    }
    return [
        Run(dataset, system, fold, seed, slices)
        for seed in seeds
        for fold in folds
        for system in systems or of_table[table]
        for slices in (ALL_SLICES if table == 3 else (SLICES,))
    ]


class Reproduction:
    """Runs, and the folders in which they leave what.

    Args:
        base: the data set's configuration.
        results: folder that gets a file of each finished run.
        workdir: folder of the runs, one below it each.
    """

    def __init__(self, base: ConfigDict, results: Path, workdir: Path) -> None:
        self.base, self.results, self.workdir = base, results, workdir
        self._schedule: dict[str, Any] = {}

    def make(
        self, runs: Sequence[Run], budget_minutes: float | None = None, jobs: int = 1
    ) -> list[Run]:
        """Makes the runs that have no result yet, and returns those that failed.

        Args:
            runs: in order.
            budget_minutes: for all of them; None for as long as it takes.
            jobs: how many at a time, each in a process of its own if it is more than one.

        Raises:
            InputError: data or settings that no run could use.
            Interrupted, KeyboardInterrupt: a signal came.
        """
        begun = time.monotonic()
        there = {run_of(result): result for result in read_results(self.results)}
        missing = [run for run in runs if run not in there]
        if missing:  # What keeps all runs from starting is said once.
            load_volume(run_settings(self.base).data)
        jobs = min(jobs, max(len(missing), 1))  # A single run has the whole machine.
        self._schedule = choose_schedule(
            self.base, self.results, self.workdir, missing, budget_minutes, jobs
        )
        configs = {run: run_config(self.base, run, self._schedule) for run in runs}
        for run in runs:
            if run in there and (other := other_settings(configs[run], there[run])):
                say(
                    f'{self.results / run.key}.json was made with other settings '
                    f'({"; ".join(other)}). It is kept; remove it to make that run anew.'
                )
        say(f'{len(runs) - len(missing)} of {len(runs)} runs are there.')
        if not missing:
            return []
        progress = Progress(missing, begun, budget_minutes)
        plan = {run: configs[run] for run in missing}
        try:
            if jobs == 1:
                self._one_by_one(plan, progress)
            else:
                self._side_by_side(plan, progress, jobs)
        except (Interrupted, KeyboardInterrupt):
            progress.interrupted()
            raise
        progress.summary()
        return list(progress.failed)

    def _one_by_one(self, plan: Plan, progress: Progress) -> None:
        for run, config in plan.items():
            if progress.over:
                break
            progress.starts(run)
            try:
                self._make(run, config)
                progress.ended(run)
            except (Interrupted, KeyboardInterrupt):
                raise
            except Exception as error:
                if not isinstance(error, InputError):
                    traceback.print_exc()
                progress.ended(run, str(error) or type(error).__name__)

    def _side_by_side(self, plan: Plan, progress: Progress, number: int) -> None:
        runs = {run.key: run for run in plan}
        waiting = list(plan)
        with Jobs(number) as jobs:
            while jobs.running or (waiting and not progress.over):
                for run in [*waiting]:
                    made_now = [plan[runs[key]] for key in jobs.running]
                    if jobs.free and not progress.over and self._may_start(run, plan, made_now):
                        waiting.remove(run)
                        progress.starts(run)
                        jobs.start(run.key, partial(self._make, run, plan[run]))
                for key, message in jobs.wait().items():
                    progress.ended(runs[key], message)

    def _may_start(self, run: Run, plan: Plan, made_now: Sequence[ConfigDict]) -> bool:
        """Whether its phase one is there, or nobody is about to finish the same one."""
        if _has_phase_one(self.workdir / run.key) or self._phase_one(run, plan[run]):
            return True
        settings = run_settings(plan[run])
        return not any(same_phase_one(settings, run_settings(other)) for other in made_now)

    def _make(self, run: Run, config: ConfigDict) -> None:
        folder = self.workdir / run.key
        origin = self._phase_one(run, config)
        if origin is not None:
            config.start_from = str(origin / 'checkpoints' / 'phase_one')
        jax.clear_caches()  # What was compiled for the run before takes memory.
        # The time of earlier calls, of a run that goes on.
        clock = folder / 'wall_seconds'
        before = float(clock.read_text()) if clock.exists() else 0.0
        scored = (folder / 'results.json').exists()
        start = time.monotonic()
        try:
            train_and_evaluate(config, str(folder))
        finally:
            # A finished run that is scored anew has cost what it cost.
            wall = before + (0 if scored else time.monotonic() - start)
            if folder.is_dir():
                write_text(clock, f'{wall:.1f}\n')
        result = run_result(
            run, folder, content_of(config), self._schedule, wall, origin.name if origin else ''
        )
        say(f'Result: {write_result(self.results, result)}')

    def _phase_one(self, run: Run, config: ConfigDict) -> Path | None:
        """The folder of another system's run that has finished the same phase one."""
        settings = run_settings(config)
        for system in SYSTEMS:
            folder = self.workdir / run._replace(system=system).key
            if system != run.system and _has_phase_one(folder):
                with contextlib.suppress(InputError):  # of another version
                    if same_phase_one(settings, read_settings(folder)):
                        return folder
        return None


def _has_phase_one(folder: Path) -> bool:
    """Whether a run has finished its phase one; one that is half written has another name."""
    return any(p.name.isdecimal() for p in (folder / 'checkpoints' / 'phase_one').glob('*'))
