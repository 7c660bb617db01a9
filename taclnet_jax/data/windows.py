"""Which sections and crops make a sample: folds, windows of sections, the grid of crops."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from taclnet_jax.config.data import SamplingSettings
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import Sections

Stretches = tuple[range, ...]
"""Stretches of consecutive sections; no window reaches from one into another."""


def fold_sections(parts: Sequence[range], fold: int) -> tuple[Stretches, Stretches]:
    """Splits the sections of each part into contiguous thirds, one of them held out.

    With one part of 30 sections, fold 3 trains on 0-19 and tests on 20-29; fold 2 tests on 10-19
    and trains on two stretches, 0-9 and 20-29. Fold 0 trains on all, and tests on none.

    Returns:
        (train, test), each a tuple of stretches of consecutive sections.
    """
    if fold == 0:
        return tuple(parts), ()
    train: list[range] = []
    test: list[range] = []
    for part in parts:
        if len(part) < 3:
            raise InputError(f'{len(part)} sections cannot be split into 3 folds.')
        start, stop = (part.start + len(part) * i // 3 for i in (fold - 1, fold))
        train += [rest for rest in (range(part.start, start), range(stop, part.stop)) if rest]
        test.append(range(start, stop))
    return tuple(train), tuple(test)


def targets_of(stretches: Sequence[range], limit: int = 0) -> list[tuple[int, range]]:
    """Every section with the stretch it is of, or at most `limit` of them, evenly spread."""
    targets = [(z, stretch) for stretch in stretches for z in stretch]
    if not 0 < limit < len(targets):
        return targets
    return [targets[(2 * i + 1) * len(targets) // (2 * limit)] for i in range(limit)]


def window_sections(target: int, stretch: range, slices: int) -> list[int]:
    """The `slices` consecutive sections around `target`; the stretch's end sections are repeated.

    An odd number, and at most as many as the stretch has, which `check_slices` sees to.
    """
    if target not in stretch:
        raise ValueError(
            f'Section {target} is not in the stretch {stretch.start} to {stretch.stop - 1}.'
        )
    around = np.arange(slices) + target - slices // 2
    return around.clip(stretch.start, stretch.stop - 1).tolist()


@dataclass(frozen=True, eq=False)
class Samples:
    """A fixed grid of crops; the sample id is the index into these arrays."""

    section: np.ndarray  # `[samples]`, the target
    y: np.ndarray  # `[samples]`, the crop's first row
    x: np.ndarray  # and column
    stretch: np.ndarray  # `[samples, 2]`, first section and end (exclusive) that the window may use
    crop: tuple[int, int]  # (height, width) in pixels
    section_shape: tuple[int, int]  # of the whole section, likewise

    def __len__(self) -> int:
        return len(self.section)

    def take(self, chosen: np.ndarray) -> Samples:
        """Some of the samples, by their indices."""
        arrays = ('section', 'y', 'x', 'stretch')
        return dataclasses.replace(self, **{name: getattr(self, name)[chosen] for name in arrays})


def grid_samples(
    stretches: Sequence[range],
    section_shape: tuple[int, int],
    crop: tuple[int, int],
    limit: int = 0,
    seed: int = 0,
) -> Samples:
    """Covers every section of the stretches with crops that overlap as little as possible.

    Args:
        stretches: stretches of target sections.
        section_shape, crop: (height, width) of a section and, no larger, of a crop.
        limit: if there are more crops than this, so many of them at random; 0 = all.
        seed: of that choice.

    Returns:
        The samples, ordered by section, then row, then column.
    """
    if not all(0 < c <= s for c, s in zip(crop, section_shape, strict=True)):
        raise InputError(
            f'Expected a crop between 1 x 1 and the section, {section_shape[0]} x '
            f'{section_shape[1]} pixels, found {crop[0]} x {crop[1]}; choose a smaller crop.'
        )
    rows, columns = map(_offsets, section_shape, crop)
    targets = [(z, stretch.start, stretch.stop) for stretch in stretches for z in stretch]
    target = np.array(targets, np.int32).reshape(-1, 3)
    count = len(target) * len(rows) * len(columns)
    if 0 < limit < count:
        rng = np.random.default_rng(seed)
        index = np.sort(rng.choice(count, limit, replace=False, shuffle=False))
    else:
        index = np.arange(count)
    z, row, column = np.unravel_index(index, (len(target), len(rows), len(columns)))
    return Samples(target[z, 0], rows[row], columns[column], target[z, 1:], crop, section_shape)


def labelled_samples(volume: Volume, samples: Samples) -> Samples:
    """Without the crops of which no pixel is labelled."""
    if volume.ignore is None:
        return samples
    labelled = [not crop.all() for crop in target_crops(volume.ignore, samples)]
    if not any(labelled):
        raise InputError(
            f'{volume.name}: every training crop lies in ignored regions; there is nothing to '
            'train on. Check the ignored regions.'
        )
    return samples.take(np.flatnonzero(labelled))


def balanced_weights(volume: Volume, samples: Samples) -> np.ndarray:
    """Probabilities `[samples]` that draw crops with little and with much membrane equally often.

    Crops are sorted into ten classes by their share of membrane; each class that has any is drawn
    with the same probability.
    """
    assert volume.membrane is not None
    share = np.array([crop.mean() for crop in target_crops(volume.membrane, samples)])
    span = max(float(np.ptp(share)), 1e-9)
    kind = np.minimum((share - share.min()) / span * 10, 9).astype(int)
    weight = 1 / np.bincount(kind, minlength=10)[kind]
    return weight / weight.sum()


def target_crops(sections: Sections, samples: Samples) -> Iterator[np.ndarray]:
    """The crop of each sample in its target section."""
    height, width = samples.crop
    for z, y, x in np.stack([samples.section, samples.y, samples.x], axis=1).tolist():
        yield sections[z, slice(y, y + height), slice(x, x + width)]


def check_slices(stretches: Sequence[range], slices: int) -> None:
    """Refuses an even number of slices and stretches that hold fewer sections than a window."""
    if slices < 1 or slices % 2 == 0:
        raise InputError(f'Expected an odd number of slices (1, 3, 5), found {slices}.')
    for stretch in stretches:
        if len(stretch) < slices:
            raise InputError(
                f'A window of {slices} slices needs as many consecutive sections, but there are '
                f'only {len(stretch)} (from section {stretch.start}); use fewer slices or more '
                'sections.'
            )


def _offsets(size: int, crop: int) -> np.ndarray:
    """First pixels of the fewest crops that cover `size`, spread evenly."""
    count = math.ceil(size / crop)
    return (size - crop) * np.arange(count, dtype=np.int32) // max(count - 1, 1)


class Split(NamedTuple):
    """What the sections of a volume are for, each as stretches."""

    train: Stretches
    validation: Stretches
    test: Stretches


def split_sections(
    parts: Sequence[range], settings: SamplingSettings, gaps: Sequence[int] = ()
) -> Split:
    """Training, validation and test sections; validation is the end of the last training stretch.

    No stretch reaches across a gap, before which sections were lost; what is left of it is left
    out where it is shorter than a window.

    Raises:
        InputError: too few sections.
    """
    split = _without_gaps(parts, settings)
    if not gaps:
        return split
    pieces = [
        tuple(p for s in stretches for p in cut(s, gaps) if len(p) >= settings.slices)
        for stretches in split
    ]
    for name, before, after in zip(split._fields, split, pieces, strict=True):
        if before and not after:
            raise InputError(
                f'Expected a window of {settings.slices} sections without a gap among those for '
                f'{name}, found none; sections are missing before {", ".join(map(str, gaps))} '
                '(counted from 0). Fill them in, or use fewer slices or another fold.'
            )
    return Split(*pieces)


def cut(stretch: range, gaps: Sequence[int]) -> list[range]:
    """A stretch in pieces, each of which begins at its start or at a gap."""
    ends = [stretch.start, *(z for z in gaps if stretch.start < z < stretch.stop), stretch.stop]
    return [range(*piece) for piece in pairwise(ends)]


def _without_gaps(parts: Sequence[range], settings: SamplingSettings) -> Split:
    train, test = fold_sections(parts, settings.fold)
    held_out, slices = settings.validation_sections, settings.slices
    if held_out == 0:
        return Split(train, (), test)
    last = train[-1]
    if not slices <= held_out <= len(last) - slices:
        raise InputError(
            f'Expected config.validation_sections to be 0, or from {slices} (a window) to '
            f'{len(last) - slices} (which leaves a window to train on, of the {len(last)} '
            f'sections of the last training stretch); found {held_out}.'
        )
    border = last.stop - held_out
    train = (*train[:-1], range(last.start, border))
    return Split(train, (range(border, last.stop),), test)


def read_window(
    sections: Sections, target: int, stretch: range, slices: int, rows: slice, columns: slice
) -> np.ndarray:
    """Part of the window of `window_sections`, `[slices, rows, columns]`."""
    return np.stack([sections[z, rows, columns] for z in window_sections(target, stretch, slices)])
