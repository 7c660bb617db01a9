"""From the axes of an array on disk to `[z, y, x]`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taclnet_jax.errors import InputError

_LOGGER = logging.getLogger(__name__)
_SLAB = 4  # EM stacks are thinner than wide; an axis this many times shorter is a stack's depth
_ANISOTROPIC = 1.5


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


def check_axis_order(
    shape: tuple[int, ...], resolution_nm: tuple[float, float, float] | None, name: str
) -> None:
    """Says so where the axes look like `[x, y, z]`, as in (1250, 1250, 125).

    A wrong order would train on sections cut across the tissue without any other sign. A last axis
    of at most a quarter of both others gives a warning, for a narrow strip is legitimate. It is an
    error where the voxels are not cubes, too, and the first axis is no shorter than half the
    second: as a volume that is a column many times taller than wide, turned an ordinary block.
    Isotropic volumes (FIB-SEM) are never refused. Who does have such a column swaps y and x, which
    changes nothing for a network.

    Args:
        shape: (sections, height, width), as read.
        resolution_nm: voxel size (z, y, x) in nm, None if unknown.
        name: of the volume, for the message.

    Raises:
        InputError: the order is all but certainly wrong.
    """
    depth, height, width = shape
    slab = _SLAB * width <= min(depth, height)
    z_nm, _, x_nm = resolution_nm or (1.0, 1.0, 1.0)
    anisotropic = max(z_nm, x_nm) >= _ANISOTROPIC * min(z_nm, x_nm)
    if slab and anisotropic and 2 * depth >= height:
        raise InputError(
            f'Expected {name} in the order [z, y, x], found the shape {shape} with voxels of '
            f'{resolution_nm} nm: {depth} sections only {width} pixels wide look like [x, y, z]. '
            'Turn the axes round; if the volume really is that narrow, swap y and x.'
        )
    if slab:
        _LOGGER.warning(
            f'{name}: the shape {shape} is read as [z, y, x], {depth} sections of {height} x '
            f'{width} pixels; if it was saved as [x, y, z], turn the axes round.'
        )
    elif x_nm >= _ANISOTROPIC * z_nm:
        _LOGGER.warning(
            f'{name}: the voxel size {resolution_nm} nm is read as (z, y, x), so that pixels are '
            'wider than sections are thick; if it was given as (x, y, z), turn it round.'
        )
