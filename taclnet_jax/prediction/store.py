"""Arrays of a job on disk, written block by block and read in any part."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorstore as ts
from numpy.typing import DTypeLike

from taclnet_jax.volumes.sections import LazySections


def open_store(
    path: Path, shape: Sequence[int], dtype: DTypeLike, chunk: Sequence[int]
) -> ts.TensorStore:
    """A zarr array, made where it is not there; what was not written is 0.

    Writers of whole chunks do not disturb each other.
    """
    metadata = {
        'shape': list(shape),
        'data_type': np.dtype(dtype).name,
        'chunk_grid': {'name': 'regular', 'configuration': {'chunk_shape': list(chunk)}},
        'codecs': [
            {'name': 'bytes', 'configuration': {'endian': 'little'}},
            {'name': 'blosc', 'configuration': {'cname': 'lz4', 'shuffle': 'shuffle'}},
        ],
        'fill_value': 0,
    }
    kvstore = {'driver': 'file', 'path': f'{path.absolute()}/'}
    spec = {'driver': 'zarr3', 'kvstore': kvstore, 'metadata': metadata}
    return ts.open(spec, open=True, create=True).result()


def chunk_side(window: int) -> int:
    """The largest side of a chunk, up to 512, of which windows are made."""
    return next(side for side in range(min(window, 512), 0, -1) if window % side == 0)


def as_sections(store: ts.TensorStore) -> LazySections:
    """A stored array `[z, y, x]`, to be read by sections and crops."""
    return LazySections(
        store.shape, store.dtype.numpy_dtype, lambda z, *crop: store[z, *crop].read().result()
    )
