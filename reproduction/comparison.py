"""Rows of a table: means over folds, the best of a column, and tests against it.

A cell is the mean and the sample standard deviation over folds of a fold's mean over its test
sections; seeds of one fold are averaged first. Rows are compared with the best one by Wilcoxon's
signed-rank test on the sections that both have scored, and the tests of a column are corrected
together by Holm's method.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
from scipy.stats import wilcoxon

from reproduction import poster
from reproduction.results import Result
from taclnet_jax.metrics import HIGHER_IS_BETTER

SIGNIFICANT = 0.05
FEWEST_PAIRS = 6
"""With fewer, no outcome of a two-sided signed-rank test is below 0.05."""


class Cell(NamedTuple):
    """A metric of a row.

    Attributes:
        mean: over folds; None without a run.
        std: over folds; None with fewer than two.
        best: of the rows with the same folds.
        p: Holm-corrected, against the best row; None where it was not tested.
    """

    mean: float | None
    std: float | None
    best: bool = False
    p: float | None = None

    @property
    def differs(self) -> bool:
        """Significantly, from the best row."""
        return self.p is not None and self.p < SIGNIFICANT


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


def fill_column(rows: Sequence[Row], metric: str) -> set[int]:
    """Sets `row.cells[metric]` of all rows, and returns the numbers of pairs that were tested."""
    for row in rows:
        row.cells[metric] = _mean_over_folds(row, metric)
    # Folds differ in difficulty: what was scored on fewer of them is not compared by its mean.
    scored = [row for row in rows if row.cells[metric].mean is not None]
    folds = Counter(row.folds for row in scored)
    most = max(folds, key=lambda those: (len(those), folds[those]), default=())
    rivals = [row for row in scored if row.folds == most]
    if len(rivals) < 2 or metric not in HIGHER_IS_BETTER:
        return set()
    choose: Callable[..., Row] = max if HIGHER_IS_BETTER[metric] else min
    best = choose(rivals, key=lambda row: row.cells[metric].mean)
    for row in rivals:
        if row.cells[metric].mean == best.cells[metric].mean:
            row.cells[metric] = row.cells[metric]._replace(best=True)
    tested: list[tuple[Row, int, float]] = []
    for row in scored:
        differences = paired_differences(row, best, metric)
        if row is not best and len(differences) >= FEWEST_PAIRS:
            tested.append((row, len(differences), wilcoxon_p(tuple(differences))))
    for (row, _, _), p in zip(tested, holm([p for _, _, p in tested]), strict=True):
        row.cells[metric] = row.cells[metric]._replace(p=p)
    return {n for _, n, _ in tested}


def paired_differences(one: Row, other: Row, metric: str) -> list[float]:
    """One minus the other by section, each averaged over the seeds that both have in its fold."""
    first, second = _by_section(one, metric), _by_section(other, metric)
    pairs: dict[tuple[int, int], list[float]] = defaultdict(list)
    for fold, seed, section in sorted(first.keys() & second.keys()):
        key = fold, seed, section
        pairs[fold, section].append(first[key] - second[key])
    return [fmean(differences) for differences in pairs.values()]


@cache  # Where differences tie, all permutations are tried, and pages repeat tables.
def wilcoxon_p(differences: tuple[float, ...]) -> float:
    """P-value of Wilcoxon's signed-rank test, two-sided; 1 if nothing differs."""
    return float(wilcoxon(differences).pvalue) if any(differences) else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's step-down method (Holm 1979)."""
    corrected = np.empty(len(p_values))
    smallest = 0.0
    for rank, place in enumerate(np.argsort(p_values, kind='stable')):
        smallest = max(smallest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = smallest
    return corrected.tolist()


def _by_section(row: Row, metric: str) -> dict[tuple[int, int, int], float]:
    return {
        (result['fold'], result['seed'], section): value
        for result in row.results
        for section, value in zip(
            result['sections'],
            result[row.map]['scores'].get(metric, [None] * len(result['sections'])),
            strict=True,
        )
        if value is not None
    }


def _mean_over_folds(row: Row, metric: str) -> Cell:
    of_runs: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (fold, seed, _), value in _by_section(row, metric).items():
        of_runs[fold][seed].append(value)
    of_folds = [fmean(map(fmean, seeds.values())) for seeds in of_runs.values()]
    if not of_folds:
        return Cell(None, None)
    return Cell(fmean(of_folds), stdev(of_folds) if len(of_folds) > 1 else None)
