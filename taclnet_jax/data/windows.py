"""Which sections and crops make a sample: folds, windows of sections, the grid of crops."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from taclnet_jax.config.data import SamplingSettings
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import Sections, section_shape
from taclnet_jax.volumes.sections import listed

Stretches = tuple[range, ...]
"""Stretches of consecutive sections; no window reaches from one into another."""


def fold_sections(volume: Volume, fold: int) -> tuple[Stretches, Stretches]:
    """Splits each part into thirds of as many labelled sections, one of them held out.

    With one part of 30 sections, fold 3 trains on 0-19 and tests on 20-29; fold 2 tests on 10-19
    and trains on two stretches, 0-9 and 20-29. Fold 0 trains on all. Where labelled sections lie
    apart, a third ends in the middle between two of them. What the volume holds out is for testing
    in every fold.

    Returns:
        (train, test), each a tuple of stretches of consecutive sections.
    """
    train: list[range] = []
    test = [*volume.held_out]
    for part in volume.parts:
        if part in volume.held_out:
            continue
        if fold == 0:
            train.append(part)
            continue
        labelled = volume.labelled(part)
        if len(labelled) < 3:
            raise InputError(
                f'{len(labelled)} sections cannot be split into 3 folds: so many are labelled of '
                f'{part.start} to {part.stop - 1} in {volume.name}. Train on all with '
                'config.fold=0.'
            )
        start, stop = (_border(part, labelled, len(labelled) * i // 3) for i in (fold - 1, fold))
        train += [rest for rest in (range(part.start, start), range(stop, part.stop)) if rest]
        test.append(range(start, stop))
    return tuple(train), tuple(sorted(test, key=lambda stretch: stretch.start))


def _border(stretch: range, labelled: Sequence[int], k: int) -> int:
    """The first section after the k-th labelled one of a stretch, half way to the next."""
    if k == 0:
        return stretch.start
    return stretch.stop if k == len(labelled) else (labelled[k - 1] + labelled[k] + 1) // 2


def targets_of(
    stretches: Sequence[range],
    limit: int = 0,
    among: Callable[[range], Sequence[int]] = lambda stretch: stretch,
) -> list[tuple[int, range]]:
    """Every section with the stretch it is of, or at most `limit` of them, evenly spread.

    `among` gives those of a stretch that are meant, as `Volume.labelled` does; all by default.
    """
    targets = [(z, stretch) for stretch in stretches for z in among(stretch)]
    if not 0 < limit < len(targets):
        return targets
    return [targets[(2 * i + 1) * len(targets) // (2 * limit)] for i in range(limit)]


def window_sections(target: int, stretch: range, slices: int) -> list[int]:
    """The `slices` consecutive sections around `target`; the stretch's end sections are repeated.

    An odd number; at most as many as the stretch has where `check_slices` saw to it.
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

    def __len__(self) -> int:
        return len(self.section)

    def take(self, chosen: np.ndarray) -> Samples:
        """Some of the samples, by their indices."""
        arrays = ('section', 'y', 'x', 'stretch')
        return dataclasses.replace(self, **{name: getattr(self, name)[chosen] for name in arrays})


def grid_samples(
    volume: Volume, stretches: Sequence[range], crop: tuple[int, int], limit: int = 0, seed: int = 0
) -> Samples:
    """Covers what is labelled in the stretches with crops that overlap as little as possible.

    Args:
        volume: its sections are covered whole; of one with boxes, these, each with one crop around
            its middle along a side that is shorter than the crop.
        stretches: stretches of target sections.
        crop: (height, width), no larger than a section.
        limit: if there are more crops than this, so many of them at random; 0 = all.
        seed: of that choice.

    Returns:
        The samples, ordered by stretch, box, section, row, column.
    """
    grids: list[tuple[range, range, np.ndarray, np.ndarray]] = []
    for stretch in stretches:
        size = section_shape(volume.image, stretch.start)
        if not all(0 < c <= s for c, s in zip(crop, size, strict=True)):
            raise InputError(
                f'Expected a crop between 1 x 1 and the section, {size[0]} x {size[1]} pixels, '
                f'found {crop[0]} x {crop[1]}; choose a smaller crop.'
            )
        for box in volume.boxes or ((stretch.start, stretch.stop, 0, size[0], 0, size[1]),):
            sections = range(max(box[0], stretch.start), min(box[1], stretch.stop))
            rows, columns = map(_offsets, box[2::2], box[3::2], crop, size)
            if sections:
                grids.append((sections, stretch, rows, columns))
    ends = np.cumsum([0, *(len(z) * len(y) * len(x) for z, _, y, x in grids)])
    if 0 < limit < ends[-1]:
        rng = np.random.default_rng(seed)
        index = np.sort(rng.choice(ends[-1], limit, replace=False, shuffle=False))
    else:
        index = np.arange(ends[-1])
    chosen = [np.empty((0, 5), np.int32)]
    for (sections, stretch, rows, columns), first, stop in zip(grids, ends, ends[1:], strict=False):
        here = index[slice(*np.searchsorted(index, (first, stop)))] - first
        z, row, column = np.unravel_index(here, (len(sections), len(rows), len(columns)))
        found = z + sections.start, rows[row], columns[column]
        ends_of = (np.full(len(z), end) for end in (stretch.start, stretch.stop))
        chosen.append(np.stack([*found, *ends_of], axis=1).astype(np.int32))
    table = np.concatenate(chosen)
    return Samples(table[:, 0], table[:, 1], table[:, 2], table[:, 3:], crop)


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
                f'only {len(stretch)} (from section {stretch.start}); give more sections, or train '
                'with fewer slices.'
            )


def _offsets(first: int, stop: int, crop: int, size: int) -> np.ndarray:
    """First pixels of the fewest crops, spread evenly, that cover a side from `first` to `stop`."""
    stop = min(stop, size)
    if stop - first < crop:
        return np.array([np.clip((first + stop - crop) // 2, 0, size - crop)], np.int32)
    count = math.ceil((stop - first) / crop)
    spread = (stop - first - crop) * np.arange(count, dtype=np.int32) // max(count - 1, 1)
    return first + spread


class Split(NamedTuple):
    """What the sections of a volume are for, each as stretches."""

    train: Stretches
    validation: Stretches
    test: Stretches


def split_sections(volume: Volume, settings: SamplingSettings) -> Split:
    """Training, validation and test sections; validation is the end of what is left to train on.

    No stretch reaches across a gap, before which sections were lost; what is left of it is left
    out where it is shorter than a window.

    Raises:
        InputError: too few sections.
    """
    split, gaps = _without_gaps(volume, settings), volume.gaps
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


def _without_gaps(volume: Volume, settings: SamplingSettings) -> Split:
    train, test = fold_sections(volume, settings.fold)
    found = _with_validation(volume, train, settings.validation_sections, settings.slices)
    if found is None:
        total = sum(len(volume.labelled(stretch)) for stretch in train)
        can = [n for n in range(1, total) if _with_validation(volume, train, n, settings.slices)]
        raise InputError(
            'Expected config.validation_sections to be 0, or so many of the last of the '
            f'{total} labelled sections to train on that they, and those before them, are '
            f'{settings.slices} (a window) or more in a row; found {settings.validation_sections}. '
            f'Here it can be {listed([0, *can], 10)}.'
        )
    return Split(*found, test)


def _with_validation(
    volume: Volume, train: Stretches, count: int, slices: int
) -> tuple[Stretches, Stretches] | None:
    """(what is left to train on, the last so many labelled sections); None where one is short."""
    kept = [*train]
    validation: list[range] = []
    left = count
    while left and kept:
        last = kept.pop()
        labelled = volume.labelled(last)
        border = _border(last, labelled, max(len(labelled) - left, 0))
        if border > last.start:
            kept.append(range(last.start, border))
        validation.insert(0, range(border, last.stop))
        left -= min(left, len(labelled))
    short = any(len(s) < slices for s in (*kept[-1:], *validation))
    if validation and (left or not kept or short):
        return None
    return tuple(kept), tuple(validation)


def read_window(
    sections: Sections, target: int, stretch: range, slices: int, rows: slice, columns: slice
) -> np.ndarray:
    """Part of the window of `window_sections`, `[slices, rows, columns]`."""
    return np.stack([sections[z, rows, columns] for z in window_sections(target, stretch, slices)])
