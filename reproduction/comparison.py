"""Rows of a table: means over folds, the best of a column, and differences by fold.

A cell is the mean and the sample standard deviation over folds of a fold's mean over its test
sections; seeds of one fold are averaged first. Neighbouring sections of one volume are alike and
come from one network, so that folds are what is independent, and of them there are three: no test
says more of them than the differences themselves.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import NamedTuple

from scipy.stats import t

from reproduction import poster
from reproduction.results import Result
from taclnet_jax.metrics import HIGHER_IS_BETTER


class Cell(NamedTuple):
    """A metric of a row.

    Attributes:
        mean: over folds; None without a run.
        std: over folds; None with fewer than two.
        best: of the rows of its table.
    """

    mean: float | None
    std: float | None
    best: bool = False


@dataclass
class Row:
    """A system, the map that is scored, and the results behind it.

    Attributes:
        title: its name.
        system, slices, map: what was trained, and whether P or P_hat is scored.
        results: all folds and seeds.
        poster: its scores in the poster.
        cells: by metric.
    """

    title: str
    system: str
    slices: int
    map: str
    results: list[Result]
    poster: poster.Scores = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)

    @property
    def folds(self) -> tuple[int, ...]:
        """Those with a result."""
        return tuple(sorted({result['fold'] for result in self.results}))

    @property
    def updates(self) -> str:
        """Of the parameters, in each run."""
        found = sorted({result['updates'] for result in self.results})
        return '–'.join(str(n) for n in dict.fromkeys((found[0], found[-1]))) if found else ''


def fill_column(rows: Sequence[Row], metric: str) -> None:
    """Sets `row.cells[metric]` of all rows, which have the same folds or no result."""
    for row in rows:
        row.cells[metric] = _mean_over_folds(row, metric)
    rivals = [row for row in rows if row.cells[metric].mean is not None]
    if len(rivals) < 2 or metric not in HIGHER_IS_BETTER:
        return
    choose: Callable[..., float] = max if HIGHER_IS_BETTER[metric] else min
    best = choose(row.cells[metric].mean for row in rivals)
    for row in rivals:
        row.cells[metric] = row.cells[metric]._replace(best=row.cells[metric].mean == best)


def fold_differences(one: Row, other: Row, metric: str) -> dict[int, float]:
    """One minus the other in each fold, over the sections that both have; means of their seeds."""
    first, second = _by_section(one, metric), _by_section(other, metric)
    found: dict[int, list[float]] = defaultdict(list)
    for key in sorted(first.keys() & second.keys()):
        found[key[0]].append(fmean(first[key].values()) - fmean(second[key].values()))
    return {fold: fmean(differences) for fold, differences in found.items()}


def interval(differences: Mapping[int, float], confidence: float = 0.95) -> float | None:
    """Half of the width of Student's interval for the mean over folds; None of a single one."""
    n = len(differences)
    if n < 2:
        return None
    quantile = float(t.ppf((1 + confidence) / 2, n - 1))
    return quantile * stdev(differences.values()) / math.sqrt(n)


def _by_section(row: Row, metric: str) -> dict[tuple[int, int], dict[int, float]]:
    """By fold and section, by seed."""
    found: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)
    for result in row.results:
        sections = result['sections']
        values = result[row.map]['scores'].get(metric, [None] * len(sections))
        for section, value in zip(sections, values, strict=True):
            if value is not None:
                found[result['fold'], section][result['seed']] = value
    return found


def _mean_over_folds(row: Row, metric: str) -> Cell:
    of_runs: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (fold, _), seeds in _by_section(row, metric).items():
        for seed, value in seeds.items():
            of_runs[fold][seed].append(value)
    of_folds = [fmean(map(fmean, seeds.values())) for seeds in of_runs.values()]
    if not of_folds:
        return Cell(None, None)
    return Cell(fmean(of_folds), stdev(of_folds) if len(of_folds) > 1 else None)
