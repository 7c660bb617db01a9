"""Half the resolution in y and x, and the way back."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import skimage as ski

from taclnet_jax.data.volume import Volume
from taclnet_jax.volumes import LazySections, Sections, read_whole


def doubled(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A map `[height // 2, width // 2]` at the section's own size, linearly interpolated.

    An odd last row or column of `shape`, (height, width), repeats its neighbour.
    """
    height, width = shape
    inner = ski.transform.resize(x, (2 * x.shape[0], 2 * x.shape[1]), order=1, mode='edge')
    return np.pad(inner, ((0, height % 2), (0, width % 2)), mode='edge')


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
        )
        if labels is not None
    }
    half |= {'image': halved_image(volume.image), 'resolution_nm': (z_nm, 2 * y_nm, 2 * x_nm)}
    return dataclasses.replace(volume, **half)


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

    some = reduce(np.zeros((1, 2, 1, 2), sections.dtype))
    coarse = LazySections((depth, height // 2, width // 2), some.dtype, read)
    return read_whole(coarse) if isinstance(sections, np.ndarray) else coarse
