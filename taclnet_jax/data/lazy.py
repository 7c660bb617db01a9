"""Stacks derived from others, a section or a crop at a time, when they are read."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence

import numpy as np
from cachetools import LRUCache
from scipy import ndimage

from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import LazySections, Sections, read_whole


def membranes_from_ids(ids: Sections, dilation_px: int = 1) -> LazySections:
    """Membranes of an instance segmentation, section by section.

    A membrane is where id 0 is, and where two cells meet: the pixels of two different ids that
    touch by an edge, dilated by `dilation_px` (steps to the four neighbours).

    Args:
        ids: `[z, y, x]` integers, 0 = outside every cell.
        dilation_px: 0 leaves a line two pixels wide, one on each side of the border.

    Returns:
        `[z, y, x]` bool.
    """
    if not np.issubdtype(ids.dtype, np.integer):
        raise InputError(f'Expected integer instance ids, found {ids.dtype}.')
    halo = dilation_px + 1

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        around, inner = _widened(rows, columns, halo)
        section = ids[z, around[0], around[1]]
        touching = np.zeros(section.shape, bool)
        for axis in (0, 1):
            a, t = np.moveaxis(section, axis, 0), np.moveaxis(touching, axis, 0)
            border = (a[1:] != a[:-1]) & (a[1:] != 0) & (a[:-1] != 0)
            t[1:] |= border
            t[:-1] |= border
        if dilation_px:
            touching = ndimage.binary_dilation(touching, iterations=dilation_px)
        return (touching | (section == 0))[inner]

    return LazySections(ids.shape, bool, read)


def unlabelled_far_from_ids(ids: Sections, beyond_px: float) -> LazySections:
    """Where id 0 is not membrane but tissue nobody labelled: far from every id of the section.

    Args:
        ids: `[z, y, x]` integers, 0 = none.
        beyond_px: up to this Euclidean distance from an id, 0 is membrane or extracellular space.

    Returns:
        `[z, y, x]` bool, True = unlabelled.
    """

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        around, inner = _widened(rows, columns, int(beyond_px) + 1)
        none = ids[z, around[0], around[1]] == 0
        if none.all():  # no id to measure the distance from
            return np.ones_like(none)[inner]
        return (ndimage.distance_transform_edt(none) > beyond_px)[inner]

    return LazySections(ids.shape, bool, read)


def _widened(rows: slice, columns: slice, halo: int) -> tuple[list[slice], tuple[slice, ...]]:
    """(a crop with so much around it as the section has, where in it the crop lies)."""
    around = [slice(max(s.start - halo, 0), s.stop + halo) for s in (rows, columns)]
    inner = tuple(
        slice(s.start - a.start, s.stop - a.start)
        for s, a in zip((rows, columns), around, strict=True)
    )
    return around, inner


def concatenated(stacks: Sequence[Sections]) -> LazySections:
    """Stacks of one section size laid end to end."""
    sizes = {tuple(s.shape[1:]) for s in stacks}
    if len(sizes) != 1:
        raise InputError(
            'Expected stacks with sections of one size, found '
            + ', '.join(f'{y} x {x}' for y, x in sorted(sizes))
            + '; use one of them at a time.'
        )
    ends = np.cumsum([s.shape[0] for s in stacks])

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        i = int(np.searchsorted(ends, z, side='right'))
        return stacks[i][z - int(ends[i]) + stacks[i].shape[0], rows, columns]

    return LazySections((int(ends[-1]), *stacks[0].shape[1:]), stacks[0].dtype, read)


def halved(volume: Volume) -> Volume:
    """The volume at half resolution in y and x; an odd last row or column is left out.

    Of each 2x2 pixels the image is the mean; the label is membrane where at least two are (a
    membrane two pixels wide stays closed), the id is the largest, and one ignored pixel ignores
    all four. What was in memory stays in memory.
    """

    def half_or_more(x: np.ndarray) -> np.ndarray:
        return x.sum(axis=(1, 3), dtype=np.uint8) >= 2

    def labels(
        sections: Sections | None, reduce: Callable[[np.ndarray], np.ndarray]
    ) -> Sections | None:
        return None if sections is None else _halved(sections, reduce)

    z_nm, y_nm, x_nm = volume.resolution_nm
    return dataclasses.replace(
        volume,
        image=halved_image(volume.image),
        membrane=labels(volume.membrane, half_or_more),
        ids=labels(volume.ids, lambda x: x.max(axis=(1, 3))),
        ignore=labels(volume.ignore, lambda x: x.max(axis=(1, 3))),
        resolution_nm=(z_nm, 2 * y_nm, 2 * x_nm),
    )


def halved_image(image: Sections) -> Sections:
    """A uint8 image at half resolution in y and x, the rounded mean of each 2x2 pixels."""
    return _halved(
        image, lambda x: ((x.sum(axis=(1, 3), dtype=np.uint16) + 2) // 4).astype(np.uint8)
    )


def _halved(sections: Sections, reduce: Callable[[np.ndarray], np.ndarray]) -> Sections:
    depth, height, width = sections.shape

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        fine = sections[
            z, slice(2 * rows.start, 2 * rows.stop), slice(2 * columns.start, 2 * columns.stop)
        ]
        return reduce(fine.reshape(rows.stop - rows.start, 2, columns.stop - columns.start, 2))

    coarse = LazySections((depth, height // 2, width // 2), sections.dtype, read)
    return read_whole(coarse) if isinstance(sections, np.ndarray) else coarse


class SectionCache:
    """Keeps whole sections that were slow to read, the ones used last.

    Args:
        megabytes: how much it may hold.
    """

    def __init__(self, megabytes: float) -> None:
        self._sections: LRUCache = LRUCache(megabytes * 1e6, getsizeof=lambda array: array.nbytes)
        self._lock = threading.Lock()

    def of(self, sections: Sections) -> LazySections:
        """The same stack, read a whole section at a time and kept."""

        def read(z: int, rows: slice, columns: slice) -> np.ndarray:
            key = (id(sections), z)
            with self._lock:
                section = self._sections.get(key)
            if section is None:
                section = sections[z]
                section.flags.writeable = False  # it is everybody's
                if section.nbytes <= self._sections.maxsize:
                    with self._lock:
                        self._sections[key] = section
            return section[rows, columns]

        return LazySections(sections.shape, sections.dtype, read)
