"""Which sections and crops make a sample: folds, windows of sections, the grid of crops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taclnet_jax.errors import InputError

Runs = tuple[range, ...]
"""Stretches of consecutive sections; no window reaches from one into another."""


def fold_sections(depth: int, fold: int, folds: int = 3) -> tuple[Runs, Runs]:
    """Splits the sections into contiguous parts, one of them held out.

    With 30 sections, fold 3 of 3 trains on 0-19 and tests on 20-29; fold 2 tests on 10-19 and
    trains on two runs, 0-9 and 20-29.

    Args:
        depth: number of sections.
        fold: the part held out, 1 to `folds`.
        folds: number of parts, 2 or more.

    Returns:
        (train, test), each a tuple of runs of consecutive sections.
    """
    if folds < 2 or not 1 <= fold <= folds:
        raise InputError(f'Expected a fold from 1 to folds (2 or more), found {fold} of {folds}.')
    if depth < folds:
        raise InputError(f'{depth} sections cannot be split into {folds} folds.')
    borders = [depth * part // folds for part in range(folds + 1)]
    start, stop = borders[fold - 1], borders[fold]
    train = tuple(run for run in (range(start), range(stop, depth)) if run)
    return train, (range(start, stop),)


def window_sections(target: int, run: range, slices: int) -> list[int]:
    """The `slices` consecutive sections around `target`; the run's end sections are repeated.

    Args:
        target: the section in the middle, inside `run`.
        run: consecutive sections that a window may use, at least `slices` of them.
        slices: odd number of sections in a window.
    """
    check_slices((run,), slices)
    if target not in run:
        raise ValueError(f'Section {target} is not in the run {run.start} to {run.stop - 1}.')
    half = slices // 2
    return [min(max(z, run.start), run.stop - 1) for z in range(target - half, target + half + 1)]


@dataclass(frozen=True, eq=False)
class Samples:
    """A fixed grid of crops; the sample id is the index into these arrays.

    Attributes:
        section: `[samples]` the target section.
        y, x: `[samples]` the crop's first row and column.
        run: `[samples, 2]` first section and end (exclusive) of the run that the window may use.
        crop: (height, width) in pixels.
        section_shape: (height, width) of the whole section.
    """

    section: np.ndarray
    y: np.ndarray
    x: np.ndarray
    run: np.ndarray
    crop: tuple[int, int]
    section_shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.section)


def grid_samples(
    runs: Sequence[range], section_shape: tuple[int, int], crop: tuple[int, int]
) -> Samples:
    """Covers every section of the runs with crops that overlap as little as possible.

    Args:
        runs: runs of target sections.
        section_shape: (height, width) of a section.
        crop: (height, width) of a crop, at most the section.

    Returns:
        The samples, ordered by section, then row, then column.
    """
    if not all(0 < c <= s for c, s in zip(crop, section_shape, strict=True)):
        raise InputError(
            f'Expected a crop between 1 x 1 and the section, {section_shape[0]} x '
            f'{section_shape[1]} pixels, found {crop[0]} x {crop[1]}; choose a smaller crop.'
        )
    rows, columns = (_offsets(s, c) for s, c in zip(section_shape, crop, strict=True))
    targets = [(z, run.start, run.stop) for run in runs for z in run]
    grid = np.array([(*t, y, x) for t in targets for y in rows for x in columns], np.int32)
    grid = grid.reshape(-1, 5)
    return Samples(
        section=grid[:, 0],
        y=grid[:, 3],
        x=grid[:, 4],
        run=grid[:, 1:3],
        crop=(int(crop[0]), int(crop[1])),
        section_shape=(int(section_shape[0]), int(section_shape[1])),
    )


def normalise(section: np.ndarray) -> np.ndarray:
    """Brings a whole section to mean 0 and variance 1, float32; a constant one becomes zeros."""
    section = np.asarray(section, np.float64)
    deviation = section.std()
    # Rounding leaves a constant float section a deviation that is tiny, not zero.
    if deviation <= 1e-9 * max(1.0, float(np.abs(section).max())):
        return np.zeros(section.shape, np.float32)
    return ((section - section.mean()) / deviation).astype(np.float32)


def check_slices(runs: Sequence[range], slices: int) -> None:
    """Refuses an even number of slices and runs that hold fewer sections than a window."""
    if slices < 1 or slices % 2 == 0:
        raise InputError(f'Expected an odd number of slices (1, 3, 5), found {slices}.')
    for run in runs:
        if len(run) < slices:
            raise InputError(
                f'A window of {slices} slices needs as many consecutive sections, but a fold has '
                f'only {len(run)} (from section {run.start}); use fewer slices or more sections.'
            )


def _offsets(size: int, crop: int) -> list[int]:
    """First pixels of the fewest crops that cover `size`, spread evenly."""
    count = math.ceil(size / crop)
    if count == 1:
        return [0]
    return [(size - crop) * i // (count - 1) for i in range(count)]
