"""Makes the runs of the tables that are missing, one after the other."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from reproduction.budget import Costs, fitting_schedule, measure_costs
from reproduction.results import (
    SCHEDULE,
    content_of,
    other_settings,
    read_results,
    run_of,
    run_result,
    schedule_of,
    write_result,
)
from reproduction.systems import BACKBONES, SLICES, SYSTEMS, Run, run_config
from taclnet_jax.config import (
    PHASE_TWO_BLOCKS,
    RunSettings,
    differences,
    flatten,
    read_settings,
    run_settings,
)
from taclnet_jax.data import load_volume
from taclnet_jax.errors import InputError, Interrupted
from taclnet_jax.files import write_text
from taclnet_jax.main import train_and_evaluate

# Of a budget; the rest is for what no measurement foresees.
_PLANNED = 0.9


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
        for slices in ((1, 3, 5) if table == 3 else (SLICES,))
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

    def make(self, runs: Sequence[Run], budget_minutes: float | None = None) -> list[Run]:
        """Makes the runs that have no result yet, and returns those that failed.

        Args:
            runs: in order.
            budget_minutes: for all of them; None for as long as it takes.

        Raises:
            InputError: data or settings that no run could use.
            Interrupted, KeyboardInterrupt: a signal came.
        """
        start = time.monotonic()
        there = {run_of(result): result for result in read_results(self.results)}
        missing = [run for run in runs if run not in there]
        if missing:
            load_volume(
                run_settings(self.base).data
            )  # What keeps all runs from starting is said once.
        schedule = self._schedule(missing, budget_minutes)
        for run in runs:
            other = run in there and other_settings(
                run_config(self.base, run, schedule), there[run]
            )
            if other:
                _say(
                    f'{self.results / run.key}.json was made with other settings '
                    f'({"; ".join(other)}). It is kept; remove it to make that run anew.'
                )
        _say(f'{len(runs) - len(missing)} of {len(runs)} runs are there.')
        finished: list[Run] = []
        failed: dict[Run, str] = {}
        for i, run in enumerate(missing):
            spent = time.monotonic() - start
            if budget_minutes is not None and spent >= 60 * budget_minutes:
                break
            left = f'about {duration((len(missing) - i) * spent / i)} left' if i else 'starting'
            _say(f'Run {i + 1} of {len(missing)} ({left}): {run}.')
            try:
                self._make(run, run_config(self.base, run, schedule))
                finished.append(run)
            except (Interrupted, KeyboardInterrupt):
                _say(f'{len(finished)} of {len(missing)} runs were finished.')
                raise
            except Exception as error:
                if not isinstance(error, InputError):
                    traceback.print_exc()
                failed[run] = str(error) or type(error).__name__
                _say(f'Failed: {run}: {failed[run]}')
        if missing:
            _say(_summary(missing, finished, failed))
        return list(failed)

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
        result = run_result(run, folder, content_of(config), wall, origin.name if origin else '')
        _say(f'Result: {write_result(self.results, result)}')

    def _phase_one(self, run: Run, config: ConfigDict) -> Path | None:
        """The folder of another system's run that has finished the same phase one."""
        for system in SYSTEMS:
            folder = self.workdir / run._replace(system=system).key
            done = any((folder / 'checkpoints' / 'phase_one').glob('[0-9]*'))
            if (
                system != run.system
                and done
                and same_phase_one(run_settings(config), read_settings(folder))
            ):
                return folder
        return None

    def _schedule(self, missing: Sequence[Run], budget_minutes: float | None) -> dict[str, Any]:
        """The epochs of all runs of the data set in this folder of results."""
        settings = flatten(run_settings(self.base))
        own = {key: settings[key] for key in SCHEDULE}
        path = self.workdir / f'{self.base.dataset}_schedule.json'
        found = schedule_of(
            r for r in read_results(self.results) if r['dataset'] == self.base.dataset
        )
        reason = f'as in the runs of {self.base.dataset} in {self.results}'
        if found is None and budget_minutes is not None and missing:
            reason = f'to take {budget_minutes:g} minutes'
            # Kept for the same command, should this one be interrupted before its first result.
            asked = {'budget': budget_minutes, 'of': own}
            kept = _read_json(path)
            if all(kept.get(key) == value for key, value in asked.items()):
                found = kept['schedule']
            else:
                found = self._fitting_schedule(missing, own, budget_minutes)
                self.workdir.mkdir(parents=True, exist_ok=True)
                write_text(path, json.dumps(asked | {'schedule': found}) + '\n')
        if found is not None and found != own:
            _say(
                f'Phase one has {found["phase_one.epochs"]} epochs and phase two '
                f'{found["phase_two.epochs"]}, in place of {own["phase_one.epochs"]} and '
                f'{own["phase_two.epochs"]}, {reason}. Another --results and --workdir start anew.'
            )
        return found or own

    def _fitting_schedule(
        self, missing: Sequence[Run], own: Mapping[str, Any], budget_minutes: float
    ) -> dict[str, Any]:
        start = time.monotonic()
        volume = load_volume(run_settings(self.base).data)
        measured: dict[tuple[str, int], Costs] = {}
        planned: list[tuple[RunSettings, Costs]] = []
        for run in missing:
            config = run_config(self.base, run, own)
            kind = run.system, run.slices
            if kind not in measured:
                _say(f'Measuring {SYSTEMS[run.system].title}, {run.slices} section(s).')
                measured[kind] = measure_costs(config, volume)
            costs = measured[kind]
            settings = run_settings(config)
            if any(same_phase_one(settings, other) for other, _ in planned):
                costs = costs.without_phase_one()
            planned.append((settings, costs))
        all_costs = [costs for _, costs in planned]
        seconds = 60 * budget_minutes - (time.monotonic() - start)
        schedule = fitting_schedule(own, all_costs, _PLANNED * seconds)
        needed = sum(costs.seconds(schedule) for costs in all_costs)
        _say(f'{len(missing)} runs will take about {duration(needed)}.')
        return schedule


def _read_json(path: Path) -> dict[str, Any]:
    """What a file of this program holds; {} if it is not there or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def same_phase_one(settings: RunSettings, other: RunSettings) -> bool:
    """Whether two runs differ in nothing but attention, phase two and its losses."""
    return not differences(settings, other, PHASE_TWO_BLOCKS)


def duration(seconds: float) -> str:
    """A time in hours and minutes."""
    minutes = round(seconds / 60)
    return f'{minutes // 60} h {minutes % 60} min' if minutes >= 60 else f'{minutes} min'


def _summary(missing: Sequence[Run], finished: Sequence[Run], failed: Mapping[Run, str]) -> str:
    rest = len(missing) - len(finished) - len(failed)
    lines = [f'Finished {len(finished)} of {len(missing)} missing runs.']
    if rest:
        lines.append(f'{rest} were not started: the budget is spent.')
    lines += [f'Failed: {run}: {message}' for run, message in failed.items()]
    return '\n'.join(lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
