"""Arrays of a job on disk, written block by block and read in any part."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import DTypeLike, NDArray

from taclnet_jax.errors import InputError, disk_is_full
from taclnet_jax.files import DAMAGED_ARRAYS
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
            {'name': 'crc32c'},
        ],
        'fill_value': 0,
    }
    kvstore = {'driver': 'file', 'path': f'{path.absolute()}/'}
    spec = {
        'driver': 'zarr3',
        'kvstore': kvstore,
        'metadata': metadata,
        'store_data_equal_to_fill_value': True,  # so that a lost chunk is missed
    }
    try:
        return ts.open(spec, open=True, create=True).result()
    except ValueError as error:
        if disk_is_full(error):
            raise
        raise lost(path) from error


def read_store(store: ts.TensorStore, *part: int | slice) -> NDArray[Any]:
    """A part of what `open_store` opened.

    Raises:
        InputError: it is damaged.
    """
    try:
        return store[part].read().result()
    except ValueError as error:
        kvstore: Any = store.kvstore
        raise lost(Path(kvstore.path)) from error


def chunk_files(store: ts.TensorStore, *part: slice | range) -> Iterator[Path]:
    """The files of a part of a stored array, which ends where chunks or the array do."""
    sides: Any = store.chunk_layout.write_chunk.shape
    kvstore: Any = store.kvstore
    places = (range(p.start // n, -(-p.stop // n)) for p, n in zip(part, sides, strict=True))
    folder = Path(kvstore.path, 'c')
    return (folder.joinpath(*map(str, place)) for place in itertools.product(*places))


def load_kept(path: Path, *names: str) -> dict[str, NDArray[Any]]:
    """The arrays that NumPy saved, with their checksums, in a file of the folder of a job.

    Raises:
        InputError: it is lost or damaged.
    """
    try:
        with path.open('rb') as file, np.load(file) as found:
            return {name: found[name] for name in names}
    except DAMAGED_ARRAYS as error:
        raise lost(path) from error


def lost(path: Path) -> InputError:
    """To be raised where the folder of a job lacks what was written there."""
    return InputError(
        f'{path} was lost or damaged after it was written, so that this prediction cannot go on. '
        'Remove the folder of its unfinished work and start the same command again.'
    )


def chunk_side(window: int) -> int:
    """The largest side of a chunk, up to 512, of which windows are made."""
    return next(side for side in range(min(window, 512), 0, -1) if window % side == 0)


def as_sections(store: ts.TensorStore) -> LazySections:
    """A stored array `[z, y, x]`, to be read by sections and crops."""
    return LazySections(
        store.shape, store.dtype.numpy_dtype, lambda z, *crop: read_store(store, z, *crop)
    )
