"""Membranes and unlabelled tissue, from instance ids, when they are read."""

import numpy as np
from scipy import ndimage

from taclnet_jax.volumes import LazySections, Sections
from taclnet_jax.volumes.sections import alike


def membranes_from_ids(ids: Sections, dilation_px: int = 1) -> LazySections:
    """Membranes of an instance segmentation, `[z, y, x]` bool, section by section.

    A membrane is where id 0 is, and where two cells meet: the pixels of two different ids that
    touch by an edge, dilated by `dilation_px` (steps to the four neighbours).

    Args:
        ids: `[z, y, x]` integers, 0 = outside every cell.
        dilation_px: 0 leaves a line two pixels wide, one on each side of the border.
    """
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

    return alike(ids, bool, read)


def unlabelled_far_from_ids(ids: Sections, beyond_px: float) -> LazySections:
    """Where id 0 is not membrane but tissue nobody labelled, `[z, y, x]` bool.

    That is wherever a disc without ids fits, so its rim along the cells around it is no membrane
    either.

    Args:
        ids: `[z, y, x]` integers, 0 = none.
        beyond_px: radius of the disc. What is narrower is membrane or extracellular space.
    """

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        around, inner = _widened(rows, columns, 2 * (int(beyond_px) + 1))
        none = ids[z, around[0], around[1]] == 0
        if none.all():  # no id to measure the distance from
            return np.ones_like(none)[inner]
        far = ndimage.distance_transform_edt(none) > beyond_px
        if not far.any():
            return far[inner]
        return (ndimage.distance_transform_edt(~far) <= beyond_px)[inner]

    return alike(ids, bool, read)


def _widened(rows: slice, columns: slice, halo: int) -> tuple[list[slice], tuple[slice, ...]]:
    """(a crop with so much around it as the section has, where in it the crop lies)."""
    around = [slice(max(s.start - halo, 0), s.stop + halo) for s in (rows, columns)]
    inner = tuple(
        slice(s.start - a.start, s.stop - a.start)
        for s, a in zip((rows, columns), around, strict=True)
    )
    return around, inner
