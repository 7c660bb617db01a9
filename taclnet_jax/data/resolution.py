"""Half the resolution in y and x, and the way back."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import skimage as ski
from scipy.ndimage import gaussian_filter, map_coordinates

from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import LazySections, Sections, read_whole, section_shape


def doubled(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A map `[height // 2, width // 2]` at the section's own size, linearly interpolated.

    An odd last row or column of `shape`, (height, width), repeats its neighbour.
    """
    height, width = shape
    inner = ski.transform.resize(x, (2 * x.shape[0], 2 * x.shape[1]), order=1, mode='edge')
    return np.pad(inner, ((0, height % 2), (0, width % 2)), mode='edge')


def resampled(sections: Sections, shape: tuple[int, int], order: int) -> LazySections:
    """Sections of another size in y and x, interpolated as they are read.

    Args:
        sections: `[z, y, x]`.
        shape: (height, width) to have.
        order: 1 = linear, after smoothing where pixels become larger; 0 = the nearest pixel, for
            ids.
    """
    sizes = sections.shape[1:]
    steps = [size / new for size, new in zip(sizes, shape, strict=True)]
    # Of the Gaussian of `skimage.transform.resize`.
    sigmas = [max((step - 1) / 2, 0.0) if order else 0.0 for step in steps]

    def read(z: int, *crop: slice) -> np.ndarray:
        places = [
            (np.arange(s.start, s.stop) + 0.5) * step - 0.5
            for s, step in zip(crop, steps, strict=True)
        ]
        # All that the Gaussian and the interpolation reach.
        margins = [int(4 * sigma + 0.5) + 1 for sigma in sigmas]
        seen = [
            slice(max(math.floor(p[0]) - m, 0), min(math.ceil(p[-1]) + m + 1, size))
            for p, m, size in zip(places, margins, sizes, strict=True)
        ]
        fine = sections[z, *seen]
        if any(sigmas):
            fine = gaussian_filter(fine.astype(np.float32), sigmas, mode='nearest')
        if not order:
            nearest = (np.rint(p).astype(int) - s.start for p, s in zip(places, seen, strict=True))
            return fine[
                np.ix_(*(n.clip(0, size - 1) for n, size in zip(nearest, fine.shape, strict=True)))
            ]
        grid = np.meshgrid(*(p - s.start for p, s in zip(places, seen, strict=True)), indexing='ij')
        values = map_coordinates(fine, grid, np.float32, order=order, mode='nearest')
        return np.rint(values) if sections.dtype.kind == 'u' else values

    return LazySections((sections.shape[0], *shape), sections.dtype, read)


def halved(volume: Volume) -> Volume:
    """The volume at half resolution in y and x; an odd last row or column is left out.

    Of each 2x2 pixels the image is the mean, and so is the label: the share of them that is
    membrane, float32. Made hard again, at two of four, it would widen membranes: those of ISBI12
    from 22.0 to 23.8 % of all pixels. The id is the largest, and one ignored pixel ignores all
    four. What was in memory stays in memory.
    """
    z_nm, y_nm, x_nm = volume.resolution_nm
    half: dict[str, Any] = {
        name: _halved(labels, reduce)
        for name, labels, reduce in (
            ('membrane', volume.membrane, lambda x: x.mean(axis=(1, 3), dtype=np.float32)),
            ('ids', volume.ids, lambda x: x.max(axis=(1, 3))),
            ('ignore', volume.ignore, lambda x: x.max(axis=(1, 3))),
            ('unscored', volume.unscored, lambda x: x.max(axis=(1, 3))),
        )
        if labels is not None
    }
    half |= {'image': halved_image(volume.image), 'resolution_nm': (z_nm, 2 * y_nm, 2 * x_nm)}
    half['boxes'] = tuple(
        (*box[:2], *(n // 2 if i % 2 == 0 else -(-n // 2) for i, n in enumerate(box[2:])))
        for box in volume.boxes
    )
    return dataclasses.replace(volume, **half)


def halved_image(image: Sections) -> Sections:
    """A uint8 image at half resolution in y and x, the rounded mean of each 2x2 pixels."""
    return _halved(
        image, lambda x: ((x.sum(axis=(1, 3), dtype=np.uint16) + 2) // 4).astype(np.uint8)
    )


def _halved(sections: Sections, reduce: Callable[[np.ndarray], np.ndarray]) -> Sections:
    depth, height, width = sections.shape
    if min(height, width) < 2:
        raise InputError(
            f'Expected sections of at least 2x2 pixels, of which the network sees the means; found '
            f'{height}x{width}.'
        )

    def half(z: int) -> tuple[int, int]:
        height, width = section_shape(sections, z)
        return height // 2, width // 2

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        fine = sections[
            z, slice(2 * rows.start, 2 * rows.stop), slice(2 * columns.start, 2 * columns.stop)
        ]
        return reduce(fine.reshape(rows.stop - rows.start, 2, columns.stop - columns.start, 2))

    some = reduce(np.zeros((1, 2, 1, 2), sections.dtype))
    coarse = LazySections((depth, height // 2, width // 2), some.dtype, read, half)
    return read_whole(coarse) if isinstance(sections, np.ndarray) else coarse
