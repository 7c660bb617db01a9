"""The fixed grid of windows in which attention and closing see a section of any size.

Persistence pairs points across a section and attention is scaled by its own extremes, so neither
can be put together from pieces. They are defined on windows instead: on a grid that begins at the
section's first pixel, each with a halo, and their attention fades into the next one's across it.
What a pixel gets depends on the section alone, not on how the work is divided. A section of up to
one and a half windows is one window.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Side:
    """Windows along one side of a section.

    Attributes:
        size: of the section.
        window: side of a window without its halo; the last one may have half as much again.
        halo: what a window sees beyond its own pixels, at most a quarter of a window.
    """

    size: int
    window: int
    halo: int

    @property
    def count(self) -> int:
        """The number of windows."""
        return max((self.size + self.window // 2) // self.window, 1)

    @property
    def longest(self) -> int:
        """What the longest window sees, at most."""
        return self.window + self.window // 2 + 2 * self.halo

    def own(self, k: int) -> slice:
        """Window k's own pixels."""
        return slice(k * self.window, self.size if k == self.count - 1 else (k + 1) * self.window)

    def seen(self, k: int) -> slice:
        """All that window k sees."""
        own = self.own(k)
        return slice(max(own.start - self.halo, 0), min(own.stop + self.halo, self.size))

    def weights(self, k: int) -> NDArray[np.float32]:
        """How much window k counts in each pixel that it sees; all windows together count 1."""
        own, seen = self.own(k), self.seen(k)
        places = np.arange(seen.start, seen.stop) + 0.5
        weights = np.ones(len(places))
        if k > 0:
            weights = np.minimum(weights, (places - own.start + self.halo) / (2 * self.halo))
        if k < self.count - 1:
            weights = np.minimum(weights, (own.stop + self.halo - places) / (2 * self.halo))
        return weights.astype(np.float32)

    def owners(self, part: slice) -> range:
        """The windows with pixels of their own in a part of the side."""
        last = self.count - 1
        return range(
            min(part.start // self.window, last), min((part.stop - 1) // self.window, last) + 1
        )

    def seers(self, part: slice) -> range:
        """The windows that see pixels of a part of the side."""
        first, last = max(part.start - self.halo, 0), min(part.stop + self.halo, self.size)
        return self.owners(slice(first, last))


class Window(NamedTuple):
    """A window of a section: its place in the grid, its own pixels, all that it sees, its weight.

    Attributes:
        place: (row, column) in the grid.
        own: slices of rows and columns of the section.
        seen: likewise.
        weight: `[rows, columns]` of what it sees.
    """

    place: tuple[int, int]
    own: tuple[slice, slice]
    seen: tuple[slice, slice]
    weight: NDArray[np.float32]


@dataclass(frozen=True)
class WindowGrid:
    """The windows of a section.

    Attributes:
        shape: (height, width) of the section.
        window, halo: see `Side`.
    """

    shape: tuple[int, int]
    window: int
    halo: int

    @property
    def sides(self) -> tuple[Side, Side]:
        """Windows along rows and along columns."""
        height, width = self.shape
        return Side(height, self.window, self.halo), Side(width, self.window, self.halo)

    def owners(self, part: tuple[slice, slice]) -> Iterator[Window]:
        """The windows with pixels of their own in a part of the section."""
        yield from self._windows(*(s.owners(p) for s, p in zip(self.sides, part, strict=True)))

    def seers(self, part: tuple[slice, slice]) -> Iterator[Window]:
        """The windows that see pixels of a part of the section."""
        yield from self._windows(*(s.seers(p) for s, p in zip(self.sides, part, strict=True)))

    def _windows(self, rows: range, columns: range) -> Iterator[Window]:
        y, x = self.sides
        for i in rows:
            for j in columns:
                weight = y.weights(i)[:, None] * x.weights(j)
                yield Window((i, j), (y.own(i), x.own(j)), (y.seen(i), x.seen(j)), weight)

    def blended(
        self,
        part: tuple[slice, slice],
        read: Callable[[Window, tuple[slice, slice]], np.ndarray | None],
    ) -> NDArray[np.float32]:
        """A part of the section, put together from what each window says of it.

        Args:
            part: slices of rows and columns of the section.
            read: gives a window's values in slices of rows and columns of what it sees; None where
                there is nothing of that window, and the others count for it.
        """
        total, weights = np.zeros((2, *(s.stop - s.start for s in part)), np.float32)
        for window in self.seers(part):
            both = [intersection(a, b) for a, b in zip(window.seen, part, strict=True)]
            inside = tuple(shifted(a, s) for a, s in zip(both, window.seen, strict=True))
            values = read(window, (inside[0], inside[1]))
            if values is not None:
                there = tuple(shifted(a, p) for a, p in zip(both, part, strict=True))
                weight = window.weight[inside]
                total[there] += weight * values
                weights[there] += weight
        return total / np.where(weights > 0, weights, 1)


def intersection(a: slice, b: slice) -> slice:
    """What two slices share; empty, with stop at start, where that is nothing."""
    start = max(a.start, b.start)
    return slice(start, max(min(a.stop, b.stop), start))


def shifted(a: slice, within: slice) -> slice:
    """The slice `a` counted from the start of another."""
    return slice(a.start - within.start, a.stop - within.start)
