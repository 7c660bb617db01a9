"""The region graph of a stack: which segments of sections near each other overlap, and how far."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from taclnet_jax.errors import InputError
from taclnet_jax.files import DAMAGED_ARRAYS, replacing
from taclnet_jax.volumes import Sections

REACH = 3
"""Sections over which segments are compared: so two lost ones in a row are bridged."""


@dataclass(frozen=True, eq=False)
class RegionGraph:
    """Segments of a stack, and the overlaps between those of sections near each other.

    Attributes:
        ids: of the segments, uint64 `[segments]`, section by section, ascending within each.
        starts: where each section's begin in `ids`, int64 `[sections + 1]`; the last is their end.
        sizes: pixels of each segment, int64 `[segments]`.
        edges: places in `ids` of two segments that overlap, that of the earlier section first,
            int64 `[edges, 2]`.
        overlaps: pixels that lie in both, int64 `[edges]`.
    """

    ids: NDArray[np.uint64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    edges: NDArray[np.int64]
    overlaps: NDArray[np.int64]

    @property
    def iou(self) -> NDArray[np.float64]:
        """Of each edge: the overlap's share of the two segments' union, above 0 and at most 1."""
        return self.overlaps / (self.sizes[self.edges].sum(axis=1) - self.overlaps)

    @property
    def sections(self) -> NDArray[np.int64]:
        """Of each segment: the number of its section."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    @property
    def distances(self) -> NDArray[np.int64]:
        """Of each edge: sections from one segment to the other, 1 to `REACH`."""
        distances: NDArray[np.int64] = np.diff(self.sections[self.edges], axis=1)[:, 0]
        return distances

    def save(self, path: Path) -> None:
        """Writes a .npz of the attributes' names, whole or not at all."""
        with replacing(path) as partial, partial.open('wb') as file:
            np.savez_compressed(file, allow_pickle=False, **vars(self))

    @classmethod
    def load(cls, path: Path) -> RegionGraph:
        """What `save` wrote.

        Raises:
            InputError: it is damaged, or something else.
        """
        try:
            with path.open('rb') as file, np.load(file) as arrays:
                return cls(**arrays)
        except DAMAGED_ARRAYS as error:
            raise InputError(
                f'Expected the region graph {path}, found a file that is damaged or something '
                'else; remove it, and it is made again.'
            ) from error


class _Section(NamedTuple):
    ids: NDArray[np.uint64]  # ascending
    sizes: NDArray[np.int64]
    places: NDArray[np.int32]  # `[height, width]`, of a pixel's segment in `ids`; -1 = membrane


def region_graph(segments: Sections, numbers: Iterable[int] | None = None) -> RegionGraph:
    """Finds the segments of a stack, and the overlaps between sections up to `REACH` apart.

    A segment is compared with sections beyond the next one as well, so that it can be followed over
    one or two in which it is lost: blank, torn, or badly segmented ones.

    Args:
        segments: `[z, y, x]` integers, 0 = membrane; each number is of one section only, as
            prediction writes them. Read once, section by section; few are in memory.
        numbers: those of the sections in order, where the caller wants to know how far it is.

    Raises:
        InputError: these are no segments, a number is of several sections, or there is none at all.

    Example:
        >>> graph = region_graph(np.array([[[1, 1, 0]], [[2, 2, 2]]]))
        >>> graph.edges.tolist(), graph.iou.tolist()
        ([[0, 1]], [0.6666666666666666])
    """
    if segments.dtype.kind not in 'iu':
        raise InputError(
            f'Expected segments as integers, 0 = membrane; found {segments.dtype}. Give the '
            'segments of a prediction, not its maps.'
        )
    starts = [0]
    ids, sizes = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    edges, overlaps = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.int64)]
    before: deque[tuple[int, _Section]] = deque(maxlen=REACH)
    for z in range(segments.shape[0]) if numbers is None else numbers:
        here = _numbered(segments[z], z)
        _check_new(here.ids, ids, z)
        for start, other in before:
            first, second, pixels = _overlaps(other, here)
            edges.append(np.stack([first + start, second + starts[-1]], axis=1))
            overlaps.append(pixels)
        before.append((starts[-1], here))
        starts.append(starts[-1] + len(here.ids))
        ids.append(here.ids)
        sizes.append(here.sizes)
    if starts[-1] == 0:
        raise InputError(
            'Expected segments to join, found none: all is membrane (0). Look at the picture of '
            'the prediction, or choose another threshold for it.'
        )
    return RegionGraph(
        np.concatenate(ids),
        np.array(starts),
        np.concatenate(sizes),
        np.concatenate(edges),
        np.concatenate(overlaps),
    )


def _numbered(section: NDArray[Any], z: int) -> _Section:
    """A section's segments, in the order of their ids."""
    cell = section != 0
    ids = section[cell]
    places = np.full(section.shape, -1, np.int32)
    if not ids.size:
        return _Section(np.zeros(0, np.uint64), np.zeros(0, np.int64), places)
    low, high = int(ids.min()), int(ids.max())
    if low < 0:
        raise InputError(
            f'Expected ids of 0 or above, found {low} in section {z}; number the segments from 1.'
        )
    if high - low < 4 * section.size:  # as prediction numbers them: no sorting of pixels
        counts = np.bincount((ids - ids.dtype.type(low)).astype(np.int64))
        found = np.flatnonzero(counts)
        place = np.zeros(len(counts), np.int32)
        place[found] = np.arange(len(found))
        places[cell] = place[(ids - ids.dtype.type(low)).astype(np.int64)]
        return _Section(found.astype(np.uint64) + np.uint64(low), counts[found], places)
    names, inverse, sizes = np.unique(ids, return_inverse=True, return_counts=True)
    places[cell] = inverse
    return _Section(names.astype(np.uint64), sizes, places)


def _check_new(ids: NDArray[np.uint64], before: list[NDArray[np.uint64]], z: int) -> None:
    """Refuses ids that an earlier section has."""
    largest = max((int(found[-1]) for found in before if len(found)), default=0)
    if not len(ids) or int(ids[0]) > largest:
        return
    for earlier, found in enumerate(before[1:]):
        both = np.intersect1d(ids, found, assume_unique=True)
        if len(both):
            raise InputError(
                f'Expected segments numbered through the stack, each id in one section; found id '
                f'{both[0]} in sections {earlier} and {z}. Give the segments of a prediction, or '
                'number those of each section on from the last one before. Ids that go on from '
                'section to section are joined already.'
            )


def _overlaps(a: _Section, b: _Section) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Place in each section, and pixels, of every pair of segments that overlap."""
    both = (a.places >= 0) & (b.places >= 0)
    pairs = a.places[both], b.places[both]
    shape = len(a.ids), len(b.ids)
    # From pairs to rows sums those that occur several times, without sorting them.
    counts = coo_array((np.ones(len(pairs[0]), np.int64), pairs), shape).tocsr().tocoo()
    return *counts.coords, counts.data
