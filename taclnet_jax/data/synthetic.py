"""A made-up EM volume: anisotropic, with exact labels, from a seed alone.

Cells are the regions of a multiplicatively weighted Voronoi diagram (each pixel belongs to the cell
whose centre is nearest in units of that cell's size), seen through a smooth distortion. All change
slowly with depth, so membranes drift from section to section, and neurites swell, taper, begin and
end. The labels stay closed where the image shows gaps.

Everything is computed section by section and only with operations that IEEE 754 rounds exactly
(add, multiply, divide, square root), so that a seed gives the same voxels on any machine.
"""

import math
from itertools import product
from typing import NamedTuple

import numpy as np
import skimage as ski
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from taclnet_jax.config.data import DataSettings
from taclnet_jax.data.labels import membranes_from_ids
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError

# Lengths in nm, grey values in [0, 1].
CELL_SPACING = 190.0
WANDER = 160.0
WANDER_DEPTH = 520.0
MEMBRANE_HALF_WIDTH = 12.0
SMALLEST_SEGMENT = 28.0  # edge of a square of the same area
SMALLEST_MEMBRANE = 40.0  # the same, for specks of membrane inside a cell
MARGIN = 500.0  # cells outside the frame that can still reach into it
TILE_PX = 64


def synthetic_volume(
    seed: int = 0,
    shape: tuple[int, int, int] = (24, 256, 256),
    resolution_nm: tuple[float, float, float] = (40, 4, 4),
) -> Volume:
    """Makes a volume that looks like neural tissue in serial-section EM, with its labels.

    Args:
        seed: what to make; the same seed, shape and resolution give the same volume anywhere.
        shape: (sections, height, width).
        resolution_nm: voxel size (z, y, x) in nm; sizes of cells and organelles follow from it.

    Returns:
        image, membrane mask and instance ids. Ids are the cells', 0 on membranes; two different
        ids never touch inside a section, and each segment of a section has one id.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f'Expected a shape (sections, height, width) above 0, found {shape}.')
    tissue = SyntheticTissue(seed, (shape[1], shape[2]), resolution_nm)
    image = np.empty(shape, np.uint8)
    ids = np.empty(shape, tissue.id_type)
    for z in range(shape[0]):
        image[z], ids[z] = tissue.section(z)
    return Volume('synthetic', image, ids == 0, ids, resolution_nm)


class _Geometry(NamedTuple):
    """The cells at one depth; arrays `[height, width]`."""

    cell: np.ndarray  # its index
    depth: np.ndarray  # distance to its border in nm (to first order)
    y: np.ndarray  # place relative to its centre in nm, before distortion
    x: np.ndarray


class SyntheticTissue:
    """Sections of one made-up tissue, at any depth and in any order.

    Ids are 1 to `cells`, and 0 on membranes; `id_type` is what holds them, uint16 or uint32.

    Args:
        seed: what to make.
        section_shape: (height, width) in pixels.
        resolution_nm: voxel size (z, y, x) in nm.
    """

    def __init__(
        self, seed: int, section_shape: tuple[int, int], resolution_nm: tuple[float, float, float]
    ) -> None:
        self.seed = seed
        self.shape = section_shape
        self.resolution_nm = resolution_nm
        if seed < 0:
            raise InputError(f'Expected a seed of 0 or above, found {seed}.')
        frame = [n * nm for n, nm in zip(section_shape, resolution_nm[1:], strict=True)]
        # One cell in each square of a grid, anywhere in it: even, but not regular.
        grid = [int(size / CELL_SPACING) + 1 + 2 * int(MARGIN / CELL_SPACING) for size in frame]
        self.cells = grid[0] * grid[1]
        self.id_type = np.dtype(np.uint16 if self.cells < 2**16 else np.uint32)
        rng = self._rng('cells')
        corner = np.stack(np.meshgrid(*map(np.arange, grid), indexing='ij'), -1).reshape(-1, 2)
        jitter = rng.random((self.cells, 2), np.float32)
        self._centre = ((corner + jitter) * CELL_SPACING - MARGIN).astype(np.float32)
        size = rng.random(self.cells, np.float32)
        self._size = 0.5 + 0.8 * size * size
        self._tone = rng.random(self.cells, np.float32) * 2 - 1
        self._vesicles = rng.random(self.cells, np.float32)
        self._mitochondrion = rng.random((self.cells, 4), np.float32)
        self._y = (np.arange(section_shape[0], dtype=np.float32) * resolution_nm[1])[:, None]
        self._x = (np.arange(section_shape[1], dtype=np.float32) * resolution_nm[2])[None, :]

    def section(self, z: int) -> tuple[np.ndarray, np.ndarray]:
        """(image, ids) of section `z`: `[height, width]` uint8 and int32, 0 on membranes."""
        here = self._geometry(z)
        ids = self._ids(z, here)
        image = self._organelles(z, here, self._cytoplasm(z, here))
        # A section has thickness: a membrane that runs obliquely is smeared, wide and faint.
        above, below = self._geometry(z - 0.4), self._geometry(z + 0.4)
        darkness = sum(_line(g.depth, 19.0) for g in (above, here, below)) / np.float32(3)
        # Of its darkness mostly all shows, and nothing in the gaps.
        stain = 0.9 + 0.35 * self._noise('stain', z, 120, 60)
        gaps = np.clip(1.0 - 5 * (self._noise('gaps', z, 55, 45) - 0.5), 0.05, 1)
        image -= 0.5 * darkness * (stain * gaps)
        return self._microscope(z, image), ids

    def _ids(self, z: float, here: _Geometry) -> np.ndarray:
        width = MEMBRANE_HALF_WIDTH * (1 + 0.35 * self._noise('width', z, 150, 150))
        # However thin: pixels of two cells never touch.
        touching = membranes_from_ids(here.cell[None] + 1, dilation_px=0)[0]
        ids = np.where(touching | (here.depth < width), 0, here.cell + 1).astype(np.int32)
        pixel = self.resolution_nm[1] * self.resolution_nm[2]
        ids[~_large(ids > 0, SMALLEST_SEGMENT**2 / pixel)] = 0
        # A speck of membrane inside a cell becomes that cell. What the frame leaves of a membrane
        # between cells may be as small and stays.
        specks = (ids == 0) & ~_large(ids == 0, SMALLEST_MEMBRANE**2 / pixel, 2)
        numbers, count = ndimage.label(specks, np.ones((3, 3)))
        of = numbers[specks]
        around = sliding_window_view(np.pad(ids, 1), (3, 3))[specks]
        most, least = np.zeros(count + 1, int), np.full(count + 1, self.cells + 1)
        np.maximum.at(most, of, around.max(axis=(1, 2)))
        np.minimum.at(least, of, np.where(around, around, self.cells + 1).min(axis=(1, 2)))
        ids[specks] = np.where(most == least, most, 0)[of]
        return ids

    def _geometry(self, z: float) -> _Geometry:
        wander = self._between_planes('wander', z, WANDER_DEPTH, (self.cells, 3))
        centre = self._centre + WANDER * wander[:, :2]
        size = self._size * (1 + 0.45 * wander[:, 2])
        y, x = (
            place
            + 150 * self._noise(f'{name} far', z, 520, 700)
            + 34 * self._noise(f'{name} near', z, 130, 260)
            + 5 * self._noise(f'{name} edge', z, 36, 80)
            for name, place in (('y', self._y), ('x', self._x))
        )
        cell = np.empty(self.shape, np.intp)
        gap = np.empty(self.shape, np.float32)
        for top, left in product(*(range(0, n, TILE_PX) for n in self.shape)):
            tile = np.s_[top : top + TILE_PX, left : left + TILE_PX]
            cell[tile], gap[tile] = _nearest_two(y[tile], x[tile], centre, size)
        slope_y, slope_x = (_slope(gap, axis, self.resolution_nm[1 + axis]) for axis in (0, 1))
        slope = np.sqrt(slope_y * slope_y + slope_x * slope_x)
        depth = gap / np.maximum(slope, np.float32(0.4) / size[cell])
        return _Geometry(cell, depth, y - centre[cell, 0], x - centre[cell, 1])

    def _cytoplasm(self, z: int, here: _Geometry) -> np.ndarray:
        image = 0.66 + 0.05 * self._tone[here.cell]
        image += 0.05 * self._noise('clouds', z, 60, 40)
        image += 0.12 * self._noise('grain', z, 15, 20)
        # Endoplasmic reticulum: pieces of thin lines inside the cells.
        lines = _line(self._noise('reticulum', z, 110, 90), 0.035)
        pieces = np.clip(4 * self._noise('reticulum pieces', z, 150, 90) - 1.2, 0, 1)
        image -= 0.2 * lines * pieces * (here.depth > 30)
        # Microtubules and ribosomes: dark dots.
        dots = self._rng('dots', z).random(self.shape, np.float32) > 0.985
        image -= 0.7 * _blur(dots.astype(np.float32))
        return image

    def _organelles(self, z: int, here: _Geometry, image: np.ndarray) -> np.ndarray:
        inside = self._mitochondria(z, here)
        matrix = np.clip(inside / 10, 0, 1)
        turn = 2 * self._mitochondrion[:, 0] - 1
        cosine = ((1 - turn * turn) / (1 + turn * turn))[here.cell]
        sine = (2 * turn / (1 + turn * turn))[here.cell]
        along = (cosine * here.y + sine * here.x) / 34 + 0.6 * self._noise('cristae', z, 90, 80)
        phase = along - np.floor(along)
        cristae = np.clip(16 * phase * phase * (1 - phase) * (1 - phase) * 2 - 1, 0, 1)
        image = image - matrix * (0.14 + 0.2 * cristae)
        image -= 0.3 * _line(inside, 10)
        return self._add_vesicles(z, here, inside, image)

    def _mitochondria(self, z: int, here: _Geometry) -> np.ndarray:
        """Distance in nm into a mitochondrion, negative outside (roughly)."""
        place, length, presence = (self._mitochondrion[:, i] for i in (1, 2, 3))
        swell = self._between_planes('mitochondria', z, WANDER_DEPTH, (self.cells, 3))[:, 2]
        size = (60 + 90 * length) * np.clip(1.6 + 2 * swell - 3 * presence, 0, 1)
        size = np.where(self._size > 0.55, size, 0)
        y = here.y - ((place - 0.5) * 150 * self._size)[here.cell]
        x = here.x - ((length - 0.5) * 150 * self._size)[here.cell]
        inside = size[here.cell] - np.sqrt(y * y + x * x * np.float32(0.5))
        return np.minimum(inside, here.depth - 26)

    def _add_vesicles(
        self, z: int, here: _Geometry, mitochondrion: np.ndarray, image: np.ndarray
    ) -> np.ndarray:
        rng = self._rng('vesicles', z)
        nm_y, nm_x = self.resolution_nm[1:]
        area = self.shape[0] * nm_y * self.shape[1] * nm_x
        y, x, kind, size = rng.random((4, int(area / 45**2)), np.float32)
        rows = (y * self.shape[0]).astype(int)
        columns = (x * self.shape[1]).astype(int)
        wanted = np.where(self._vesicles[here.cell[rows, columns]] > 0.75, 0.6, 0.1)
        free = (here.depth[rows, columns] > 34) & (mitochondrion[rows, columns] < -24)
        for i in np.flatnonzero(free & (kind < wanted)):
            radius = 13 + 9 * size[i]
            down, right = (int((radius + 10) / nm) for nm in (nm_y, nm_x))
            y, x = rows[i], columns[i]
            part = np.s_[max(0, y - down) : y + down + 1, max(0, x - right) : x + right + 1]
            dy, dx = self._y[part[0]] - self._y[y], self._x[:, part[1]] - self._x[:, x]
            image[part] -= 0.26 * _line(np.sqrt(dy * dy + dx * dx) - radius, 8)
        return image

    def _microscope(self, z: int, image: np.ndarray) -> np.ndarray:
        """Blur, noise, uneven illumination and the section's own contrast; 8 bits."""
        rng = self._rng('microscope', z)
        brightness, contrast = rng.random(2, np.float32) * 2 - 1
        white = _mix(np.ones(3, np.float32), *rng.random((3, *self.shape), np.float32)) - 1.5
        image = _blur(image) + 0.07 * white + 0.3 * _blur(_blur(white))
        uneven = self._noise('illumination', z, 1100, 100)
        image = (image - 0.5) * (1 + 0.12 * contrast + 0.2 * uneven) + 0.5
        image += 0.04 * brightness + 0.07 * self._noise('shade', z, 800, 100)
        return np.floor(np.clip(image, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)

    def _rng(self, name: str, index: int = 0) -> np.random.Generator:
        # Negative indices occur half a section above the first.
        return np.random.default_rng([self.seed, *name.encode(), index + 2**20])

    def _noise(self, name: str, z: float, size_nm: float, depth_nm: float) -> np.ndarray:
        """`[height, width]` in [-1, 1]: smooth noise with features of about `size_nm`.

        A quadratic B-spline through a lattice of random numbers.
        """
        rows, row_weights = _spline(self._y[:, 0] / np.float32(size_nm))
        columns, column_weights = _spline(self._x[0] / np.float32(size_nm))
        size = (int(rows[-1]) + 3, int(columns[-1]) + 3)
        lattice = self._between_planes(name, z, depth_nm, size)
        tall = _mix(row_weights[..., None], *(lattice[rows + i] for i in range(3)))
        return _mix(column_weights, *(tall[:, columns + i] for i in range(3))) * np.float32(1.8)

    def _between_planes(
        self, name: str, z: float, depth_nm: float, size: tuple[int, int]
    ) -> np.ndarray:
        """Random numbers in [-1, 1] that change smoothly with depth."""
        first, weights = _spline(np.array([z * self.resolution_nm[0] / depth_nm], np.float32))
        planes = (self._rng(name, int(first[0]) + i).random(size, np.float32) for i in range(3))
        return _mix(weights, *planes) * 2 - 1


def _nearest_two(
    y: np.ndarray, x: np.ndarray, centre: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest cell of each pixel of a tile, and how much farther away the second one is.

    Distances are in units of each cell's size.
    """
    middle_y, middle_x = (y.min() + y.max()) / 2, (x.min() + x.max()) / 2
    dy, dx = centre[:, 0] - middle_y, centre[:, 1] - middle_x
    distance = np.sqrt(dy * dy + dx * dx)
    # No pixel is farther from the tile's middle than `reach`: some cells are no candidates.
    dy, dx = y.max() - middle_y, x.max() - middle_x
    reach = np.sqrt(dy * dy + dx * dx)
    second = np.partition((distance + reach) / size, 1)[1]
    near = np.flatnonzero((distance - reach) / size <= second)
    dy = y - centre[near, 0, None, None]
    dx = x - centre[near, 1, None, None]
    distance = np.sqrt(dy * dy + dx * dx) / size[near, None, None]
    nearest = distance.argmin(axis=0)
    least = distance.min(axis=0)
    np.put_along_axis(distance, nearest[None], np.float32(np.inf), axis=0)
    return near[nearest], distance.min(axis=0) - least


def _large(mask: np.ndarray, area: float, connectivity: int = 1) -> np.ndarray:
    """The connected components of `mask` with `area` pixels or more."""
    smaller = math.ceil(area) - 1
    return ski.morphology.remove_small_objects(mask, max_size=smaller, connectivity=connectivity)


def _spline(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First of three neighbours on the integer lattice, quadratic B-spline weights `[3, ...]`."""
    first = np.floor(place)
    f = place - first
    half = np.float32(0.5)
    return first.astype(int), np.stack([half * (1 - f) * (1 - f), half + f * (1 - f), half * f * f])


def _mix(weights: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """A weighted sum in a fixed order (a matrix product would leave the order to the machine)."""
    return weights[0] * a + weights[1] * b + weights[2] * c


def _slope(field: np.ndarray, axis: int, spacing: float) -> np.ndarray:
    return np.gradient(field, spacing, axis=axis) if field.shape[axis] > 1 else 0 * field


def _line(distance: np.ndarray, half_width: float) -> np.ndarray:
    """A smooth line at distance 0: 1 in the middle, 0 from `half_width` on."""
    t = np.clip(distance / np.float32(half_width), -1, 1)
    t = 1 - t * t
    return t * t


def _blur(image: np.ndarray) -> np.ndarray:
    """(1 2 1) / 4 along both axes, borders repeated."""
    for axis in (0, 1):
        places = np.arange(image.shape[axis])
        before, after = (image.take(places + step, axis, mode='clip') for step in (-1, 1))
        image = (before + 2 * image + after) / 4
    return image


def load(settings: DataSettings) -> Volume:
    """As `synthetic_volume`, by the settings of a run."""
    return synthetic_volume(settings.synthetic.seed, settings.synthetic.shape)
