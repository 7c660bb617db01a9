"""Volumes in slabs of whole chunks, so that no more than a slab is in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from taclnet_jax.volumes.sections import Sections

_SLAB_BYTES = 2**28


def slabs(
    shape: tuple[int, ...], chunk: tuple[int, int, int], itemsize: int
) -> Iterator[tuple[slice, slice]]:
    """Cuts a volume along its chunks.

    Args:
        shape: (sections, height, width).
        chunk: (z, y, x) voxels.
        itemsize: bytes of a voxel.

    Yields:
        Sections and rows; together they cover the volume once, each as many whole rows of chunks
        as 256 MiB hold, and one at least.
    """
    depth, height, width = shape
    row_bytes = chunk[0] * chunk[1] * width * itemsize
    rows = chunk[1] * max(1, _SLAB_BYTES // row_bytes)
    for z in range(0, depth, chunk[0]):
        for y in range(0, height, rows):
            yield slice(z, min(z + chunk[0], depth)), slice(y, min(y + rows, height))


def read_slab(array: Sections, depth: slice, rows: slice) -> np.ndarray:
    """`[sections, rows, width]`, read section by section."""
    sections = range(depth.start, depth.stop)
    slab = np.empty((len(sections), rows.stop - rows.start, array.shape[2]), array.dtype)
    for index, z in enumerate(sections):
        slab[index] = array[z, rows, slice(None)]
    return slab
