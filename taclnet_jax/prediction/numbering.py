"""Segments of blocks become segments of sections, joined across blocks and numbered anew."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from taclnet_jax.prediction.layout import Layout
from taclnet_jax.prediction.passes import BORDERS, border_file
from taclnet_jax.prediction.store import load_kept
from taclnet_jax.volumes import Sections
from taclnet_jax.volumes.sections import LazySections


class Numbering:
    """From a number within a block to one within the volume.

    Pieces that touch across the side of a block, in the same section, are one segment; its number
    is the smallest of theirs. No number stands for segments of two sections.

    Args:
        layout: of the job.
        scratch: its folder, with the blocks' borders.
        needed: `[blocks along z, y, x]` that have any.
    """

    def __init__(self, layout: Layout, scratch: Path, needed: NDArray[np.bool_]) -> None:
        self._layout = layout
        depth = layout.block[0]
        # [sections, blocks along y, along x], what is added to the numbers of a block.
        self._offsets = np.zeros((len(layout.sections), *needed.shape[1:]), np.int64)
        total, joined = 0, []
        for k in range(needed.shape[0]):
            borders = {
                (i, j): load_kept(border_file(scratch, (k, i, j)), *BORDERS)
                for i, j in np.argwhere(needed[k]).tolist()
            }
            sections = layout.sections_of((k, 0, 0))
            for local, z in enumerate(sections):
                for place, lines in borders.items():
                    self._offsets[z, *place] = total
                    total += int(lines['count'][local])
            for (i, j), lines in borders.items():
                for side, other, step in (('bottom', 'top', (1, 0)), ('right', 'left', (0, 1))):
                    beside = borders.get((i + step[0], j + step[1]))
                    if beside is None:
                        continue
                    here, there = (
                        numbers[name]
                        + self._offsets[k * depth : k * depth + len(sections), *at][:, None]
                        for numbers, name, at in (
                            (lines, side, (i, j)),
                            (beside, other, (i + step[0], j + step[1])),
                        )
                    )
                    touch = (lines[side] > 0) & (beside[other] > 0)
                    joined.append(np.unique(np.stack([here[touch], there[touch]]), axis=1))
        pairs = np.concatenate(joined, axis=1) if joined else np.zeros((2, 0), np.int64)
        self._from, self._to = _merged(pairs)
        self.largest = total

    def applied(self, pieces: Sections) -> LazySections:
        """The region's segments in the volume's numbers, of their numbers within blocks."""
        y, x = (self._starts(axis) for axis in (0, 1))

        def read(z: int, rows: slice, columns: slice) -> np.ndarray:
            local = pieces[z, rows, columns]
            i = np.searchsorted(y, np.arange(rows.start, rows.stop), side='right') - 1
            j = np.searchsorted(x, np.arange(columns.start, columns.stop), side='right') - 1
            numbers = np.where(local > 0, local + self._offsets[z][np.ix_(i, j)], 0)
            if len(self._from):
                at = np.searchsorted(self._from, numbers).clip(max=len(self._from) - 1)
                numbers = np.where(self._from[at] == numbers, self._to[at], numbers)
            return numbers

        return LazySections(pieces.shape, np.int64, read)

    def _starts(self, axis: int) -> list[int]:
        """Where blocks begin along a side of the region, in the model's pixels."""
        count = self._layout.counts[1 + axis]
        index = [(0, k, 0) if axis == 0 else (0, 0, k) for k in range(count)]
        parts = [self._layout.fine_part(self._layout.part_of(i)) for i in index]
        return [part[axis].start for part in parts]


def _merged(pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers that are of a pair, sorted, and the smallest that each hangs together with."""
    numbers, places = np.unique(pairs, return_inverse=True)
    first, second = places.reshape(2, -1)
    graph = coo_array((np.ones(len(first), bool), (first, second)), (len(numbers),) * 2)
    count, component = connected_components(graph, directed=False)
    smallest = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(smallest, component, numbers)
    return numbers, smallest[component]
