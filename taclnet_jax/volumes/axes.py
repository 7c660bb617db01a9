"""From the axes of an array on disk to `[z, y, x]`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taclnet_jax.errors import InputError


@dataclass(frozen=True)
class Axes:
    """Which axes on disk are z (None: a single section), y and x; all others have length 1."""

    stored: tuple[int, ...]
    z: int | None
    y: int
    x: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(sections, height, width)."""
        depth = 1 if self.z is None else self.stored[self.z]
        return depth, self.stored[self.y], self.stored[self.x]

    def key(self, z: int, rows: slice, columns: slice) -> tuple[int | slice, ...]:
        """What to ask the array on disk for."""
        key: list[int | slice] = [0] * len(self.stored)
        if self.z is not None:
            key[self.z] = z
        key[self.y] = rows
        key[self.x] = columns
        return tuple(key)

    def turn(self, crop: np.ndarray) -> np.ndarray:
        """Brings what `key` reads to `[rows, columns]`."""
        return crop if self.y < self.x else crop.T

    def pick(self, values: Any) -> list[Any] | None:
        """Brings what is given for each axis on disk to (z, y, x).

        Args:
            values: one for each axis on disk, or for z, y and x alone in the order on disk.

        Returns:
            None where there are not as many values, or no z.
        """
        if self.z is None or isinstance(values, str | bytes) or not np.iterable(values):
            return None
        values = list(values)
        places = [self.z, self.y, self.x]
        if len(values) == 3:
            places = [sorted(places).index(axis) for axis in places]
        elif len(values) != len(self.stored):
            return None
        return [values[axis] for axis in places]


def find_axes(
    stored: Sequence[int], order: str, names: Sequence[str] | None, what: str, name: str
) -> Axes:
    """Finds z, y and x among the axes on disk.

    Args:
        stored: the shape on disk.
        order: of the axes without names, 'zyx' or 'xyz'; those of length 1 around them are none.
        names: of the axes on disk, where the file has them.
        what, name: what the array holds, and what it is called, for the messages.

    Raises:
        InputError: the array has no two axes, or more than one channel or time point.
    """
    stored = tuple(int(size) for size in stored)
    places = {axis.lower(): place for place, axis in enumerate(names or ())}
    if len(places) != len(stored) or not {'y', 'x'} <= places.keys():
        first, last = 0, len(stored)
        while last - first > 3 and stored[last - 1] == 1:
            last -= 1
        while last - first > 3 and stored[first] == 1:
            first += 1
        present = order if last - first == 3 else order.replace('z', '')
        if last - first != len(present):
            raise _unusable(stored, names, what, name)
        places = {axis: first + place for place, axis in enumerate(present)}
    axes = Axes(stored, places.get('z'), places['y'], places['x'])
    kept = {axes.z, axes.y, axes.x}
    if any(size > 1 and axis not in kept for axis, size in enumerate(stored)):
        raise _unusable(stored, names, what, name)
    return axes


def _unusable(
    stored: tuple[int, ...], names: Sequence[str] | None, what: str, name: str
) -> InputError:
    named = f' ({", ".join(names)})' if names else ''
    return InputError(
        f'Expected the {what} {name} as a stack [z, y, x], found {len(stored)} '
        f'{"axis" if len(stored) == 1 else "axes"}{named} of shape {stored}; save one channel and '
        'one time point.'
    )
