"""The number of epochs of all runs of a data set: its own, that of the results, or of a budget."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from reproduction.budget import Costs, fitting_schedule, measure_costs, needed_seconds
from reproduction.jobs import Jobs
from reproduction.progress import duration, say
from reproduction.results import SCHEDULE, read_results, schedule_of
from reproduction.systems import SYSTEMS, Run, run_config
from taclnet_jax.config import differences, run_settings
from taclnet_jax.config.schema import flatten
from taclnet_jax.config.settings import RunSettings
from taclnet_jax.data import load_volume
from taclnet_jax.errors import InputError
from taclnet_jax.files import write_text

# Of a budget; the rest is for what no measurement foresees.
_PLANNED = 0.9


def choose_schedule(
    base: ConfigDict,
    results: Path,
    workdir: Path,
    missing: Sequence[Run],
    budget_minutes: float | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """The settings of `SCHEDULE` that all runs of a data set share.

    Args:
        base: the data set's configuration.
        results: folder of results; the schedule of those there goes before any budget.
        workdir: folder of the runs.
        missing: the runs to be made.
        budget_minutes: for them; None for as long as it takes.
        jobs: how many of them are made side by side.
    """
    settings = flatten(run_settings(base))
    own = {key: settings[key] for key in SCHEDULE}
    found = schedule_of(r for r in read_results(results) if r['dataset'] == base.dataset)
    reason = f'as in the runs of {base.dataset} in {results}'
    if found is None and budget_minutes is not None and missing:
        found = _of_budget(base, workdir, missing, own, budget_minutes, jobs)
        reason = f'to take {budget_minutes:g} minutes'
    if found is not None and found != own:
        say(
            f'Phase one has {found["phase_one.epochs"]} epochs and phase two '
            f'{found["phase_two.epochs"]}, in place of {own["phase_one.epochs"]} and '
            f'{own["phase_two.epochs"]}, {reason}. Another --results and --workdir start anew.'
        )
    return found or own


def same_phase_one(settings: RunSettings, other: RunSettings) -> bool:
    """Whether two runs differ in nothing but attention, phase two and its losses."""
    return not differences(settings, other, in_phase_one=True)


def _of_budget(
    base: ConfigDict,
    workdir: Path,
    missing: Sequence[Run],
    own: Mapping[str, Any],
    minutes: float,
    jobs: int,
) -> dict[str, Any]:
    """The schedule kept for the same command, should it have been interrupted; or a new one."""
    path, asked = workdir / f'{base.dataset}_schedule.json', {'budget': minutes, 'of': dict(own)}
    if found := _kept(path, asked):
        return found
    workdir.mkdir(parents=True, exist_ok=True)
    fit = partial(fit_budget, base, path, missing, asked, jobs)
    if jobs == 1:
        fit()
    else:  # An accelerator that this process had measured on would not be free for the runs.
        _call_alone(fit, jobs)
    return _kept(path, asked)


def fit_budget(
    base: ConfigDict, path: Path, missing: Sequence[Run], asked: Mapping[str, Any], jobs: int
) -> None:
    """Measures what runs take, and writes the schedule that fits into the budget.

    Args:
        base: the data set's configuration.
        path: of the file, which holds what is asked and the schedule.
        missing: the runs to be made.
        asked: the budget in minutes, and the longest schedule.
        jobs: how many of them are made side by side.
    """
    start = time.monotonic()
    volume = load_volume(run_settings(base).data)
    measured: dict[tuple[str, int], Costs] = {}
    settings: list[RunSettings] = []
    costs: list[Costs] = []
    for run in missing:
        config = run_config(base, run, asked['of'])
        kind = run.system, run.slices
        if kind not in measured:
            say(f'Measuring {SYSTEMS[run.system].title}, {run.slices} section(s).')
            measured[kind] = measure_costs(config, volume)
        own = run_settings(config)
        origin = next((i for i, other in enumerate(settings) if same_phase_one(own, other)), None)
        settings.append(own)
        # Of an epoch of the schedule, of which a system has more or fewer of its own.
        own_seconds, cost = measured[kind].epochs, SYSTEMS[run.system].cost
        epochs = own_seconds[0] / cost[0], own_seconds[1] / cost[1]
        costs.append(measured[kind]._replace(epochs=epochs, origin=origin))
    if jax.default_backend() != 'cpu':
        jobs = 1  # Whatever they share an accelerator for, it has no more to give.
    seconds = 60 * asked['budget'] - (time.monotonic() - start)
    schedule = fitting_schedule(asked['of'], costs, _PLANNED * seconds, jobs)
    needed = needed_seconds(costs, schedule, jobs)
    say(f'{len(missing)} runs will take about {duration(needed)}.')
    write_text(path, json.dumps({**asked, 'schedule': schedule}) + '\n')


def _call_alone(fit: Any, jobs: int) -> None:
    with Jobs(jobs) as processes:
        processes.start('budget', fit)
        while not (ended := processes.wait()):
            pass
    if ended['budget']:
        raise InputError(f'The budget could not be measured: {ended["budget"]}')


def _kept(path: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The schedule in a file of this program; {} if it is not there, damaged, or of other runs."""
    try:
        kept = json.loads(path.read_text())
        return kept['schedule'] if all(kept[key] == asked[key] for key in asked) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
