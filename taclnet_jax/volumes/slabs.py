"""Volumes in slabs of whole chunks, so that no more than a slab is in memory."""

from collections.abc import Iterator

import numpy as np

from taclnet_jax.volumes.sections import Content

_SLAB_BYTES = 2**28


def slabs(content: Content) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Cuts a volume into as many whole rows of chunks as 256 MiB hold, and one at least.

    Yields:
        Sections, rows, and what is there, `[sections, rows, width]`, until the next is asked for.
    """
    array, chunk = content.array, content.chunk
    depth, height, width = array.shape
    fit = chunk[1] * max(1, _SLAB_BYTES // (chunk[0] * chunk[1] * width * array.dtype.itemsize))
    buffer = np.empty((chunk[0], min(fit, height), width), array.dtype)
    for first in range(0, depth, chunk[0]):
        sections = slice(first, min(first + chunk[0], depth))
        for top in range(0, height, fit):
            rows = slice(top, min(top + fit, height))
            slab = buffer[: sections.stop - first, : rows.stop - top]
            for place, z in enumerate(range(first, sections.stop)):
                slab[place] = array[z, rows, slice(None)]
            yield sections, rows, slab
