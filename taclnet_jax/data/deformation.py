"""Augmentations that move pixels: misaligned sections and elastic deformation.

The image and its labels move together. Pixels come from around the crop where the section has
them; beyond the section's border they are mirrored, and not valid.
"""

import math
from functools import lru_cache

import numpy as np
from scipy.ndimage import map_coordinates

from taclnet_jax.volumes import Sections, section_shape


def misalignment(
    rng: np.random.Generator, slices: int, probability: float, most_px: int
) -> np.ndarray:
    """How far each section of a window is displaced in its plane by a fault of the alignment.

    As in Lee et al. 2017 (arXiv:1706.00120): half of the faults are slips, of one section against
    all others, and half are steps, of one section and all after it. The target stays where it is,
    so that what is known of its pixels stays true; the others move about it.

    Args:
        rng: the sample's generator.
        slices: odd number of sections; a single one cannot be misaligned.
        probability: of a fault in the window.
        most_px: displacements along either axis are whole pixels from -most_px to most_px.

    Returns:
        `[slices, 2]` integers (rows, columns), zeros for the target.
    """
    chance, step = rng.random(2)
    place = rng.random()
    displacement = rng.integers(-most_px, most_px + 1, 2)
    moves = np.zeros((slices, 2), int)
    if chance < probability and slices > 1:
        if step < 0.5:
            moves[1 + int(place * (slices - 1)) :] = displacement
        else:
            moves[int(place * slices)] = displacement
    return moves - moves[slices // 2]


def elastic_displacement(
    rng: np.random.Generator,
    size: tuple[int, int],
    probability: float,
    most_px: float,
    spacing_px: int,
) -> np.ndarray | None:
    """A smooth random field of displacements: a cubic B-spline through a lattice of random ones.

    Args:
        rng: the sample's generator.
        size: (height, width) of the crop.
        probability: of a field.
        most_px: bounds the displacement along either axis; up to a quarter of the spacing the
            field folds nowhere.
        spacing_px: of the lattice.

    Returns:
        `[2, height, width]` float32 (rows, columns) in pixels, or None for no field.
    """
    rows, columns = (_spline_basis(n, spacing_px) for n in size)
    lattice = rng.uniform(-most_px, most_px, (2, rows.shape[1], columns.shape[1]))
    if rng.random() >= probability:
        return None
    return (rows @ lattice @ columns.T).astype(np.float32)


def margin_px(most_px: float) -> int:
    """Pixels around the crop that `warp` needs for displacements of up to `most_px`."""
    return math.ceil(most_px) + 1


def warp(sections: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Takes each pixel of a crop from its displaced place, interpolated linearly; all alike.

    Args:
        sections: `[slices, height + 2 m, width + 2 m]` float32: the crop with a margin m, of at
            least `margin_px` of the largest displacement, which is taken off.
        displacement: `[2, height, width]` float32.
    """
    margin = (sections.shape[2] - displacement.shape[2]) // 2
    places = displacement + np.indices(displacement.shape[1:], np.float32) + np.float32(margin)
    return np.stack([map_coordinates(section, places, order=1) for section in sections])


def read_mirrored(
    sections: Sections, z: int, corner: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Reads a crop that may reach beyond the borders of section `z`, where it is mirrored.

    The border's own pixels are not repeated. No more is read than the crop needs.

    Args:
        sections: `[z, y, x]`.
        z: the section.
        corner: the crop's first row and column, any integers.
        size: (height, width) of the crop.
    """
    full_shape = section_shape(sections, z)
    if inside(corner, size, full_shape).all():
        rows, columns = (slice(c, c + n) for c, n in zip(corner, size, strict=True))
        return sections[z, rows, columns]
    down, right = (
        _mirrored(first, count, full)
        for first, count, full in zip(corner, size, full_shape, strict=True)
    )
    top, left = int(down.min()), int(right.min())
    part = sections[z, slice(top, int(down.max()) + 1), slice(left, int(right.max()) + 1)]
    return part[(down - top)[:, None], right - left]


def inside(
    corner: tuple[int, int], size: tuple[int, int], section_shape: tuple[int, ...]
) -> np.ndarray:
    """Which pixels of a crop the section has: `[height, width]` booleans."""
    rows, columns = (
        (np.arange(first, first + count) >= 0) & (np.arange(first, first + count) < full)
        for first, count, full in zip(corner, size, section_shape, strict=True)
    )
    return rows[:, None] & columns


def _mirrored(first: int, count: int, full: int) -> np.ndarray:
    """The places `first` to `first + count` of an axis of `full` pixels, mirrored at its ends."""
    places = np.arange(first, first + count) % max(2 * (full - 1), 1)
    return np.minimum(places, 2 * (full - 1) - places)


@lru_cache(maxsize=16)
def _spline_basis(size: int, spacing: int) -> np.ndarray:
    """Cubic B-splines `spacing` apart at the pixels 0 to size - 1: `[size, splines]`."""
    splines = (size - 1) // spacing + 4
    distance = np.abs(np.arange(size)[:, None] / spacing - (np.arange(splines) - 1))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, near, far)
