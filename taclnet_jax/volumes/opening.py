"""Opens a volume, whatever its format."""

import os
from pathlib import Path
from urllib.parse import unquote

import h5py

from taclnet_jax.errors import InputError
from taclnet_jax.volumes.chunked import ADDRESSES, is_chunked, open_chunked
from taclnet_jax.volumes.hdf5 import open_hdf5
from taclnet_jax.volumes.section_files import open_section_files
from taclnet_jax.volumes.sections import StoredArray
from taclnet_jax.volumes.tiff import open_tiff

_STARTS = {**dict.fromkeys((b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'), 'TIFF'), b'\x89PNG': 'PNG'}
_SUFFIXES = {
    **dict.fromkeys(('.h5', '.hdf', '.hdf5'), 'HDF5'),
    **dict.fromkeys(('.tif', '.tiff'), 'TIFF'),
    '.png': 'PNG',
}


def local_path(path: str) -> str:
    """The path that file://... stands for; other paths and addresses as they are."""
    return unquote(path.removeprefix('file://')) if path.startswith('file:///') else path


def local_folder(path: str | os.PathLike[str], what: str) -> Path:
    """A folder of this machine, which is there or is to be made.

    Raises:
        InputError: it is an address; `what` says what of.
    """
    name = local_path(os.fspath(path))
    if '://' in name:
        raise InputError(
            f'Expected {what} to be a folder of this machine, found the address {name}. Choose a '
            'folder, and copy it there.'
        )
    return Path(name)


def absolute_path(path: str) -> str:
    """A path from the root; an address, and no path, as they are."""
    local = local_path(path)
    return local if not local or '://' in local else str(Path(local).absolute())


def open_array(path: str | os.PathLike[str], what: str = 'image', dataset: str = '') -> StoredArray:
    """Opens a volume for reading by sections and crops; nothing is loaded.

    Args:
        path: a TIFF or HDF5 file; a folder of PNG or TIFF sections, in natural order of their
            names; a zarr (v2, v3), N5 or Neuroglancer precomputed folder; or the address of one
            of these three (gs://, s3://, http://, https://). Files are known by their content,
            folders by their metadata.
        what: what it holds, for the error messages ('image', 'labels', ...).
        dataset: the array within HDF5, zarr or N5. It may be left out where there is only one,
            and of an image in several resolutions the finest is taken.

    Returns:
        The array as `[z, y, x]`: HDF5, zarr and files are taken in that order unless their
        metadata name the axes, N5 and precomputed are `[x, y, z]` on disk. One channel only.
        Reading is thread-safe; memory is bounded by caches of 64 MiB for an HDF5 file and 256
        MiB for all arrays of zarr, N5 and precomputed together.

    Raises:
        InputError: there is nothing such, or it is damaged or no grey stack.
    """
    name = local_path(os.fspath(path))
    if '://' in name:
        if not name.startswith(ADDRESSES):
            raise InputError(
                f'Expected the address of the {what} to start with one of '
                f'{", ".join(ADDRESSES)}, found {name}; give such an address, or a path.'
            )
        return open_chunked(name, dataset, what)
    path = Path(name)
    try:
        if is_chunked(path):
            return open_chunked(str(path), dataset, what)
        kind = 'folder of sections' if path.is_dir() else f'{_kind(path, what)} file'
        if kind == 'HDF5 file':
            return open_hdf5(path, dataset, what)
        if dataset:
            raise InputError(
                f'Expected no dataset for the {what} {path}, which is a {kind}, found {dataset!r}; '
                'leave it out.'
            )
        if kind == 'TIFF file':
            return open_tiff(path, what)
        return open_section_files(path, what)
    except PermissionError as error:
        raise InputError(
            f'Cannot read the {what} {path}: {error.strerror}; ask for the permission to read it.'
        ) from error


def _kind(path: Path, what: str) -> str:
    """What a file is by its first bytes; by its name where they tell nothing."""
    if not path.exists():
        raise InputError(
            f'Expected the {what} at {path}, but there is no such file or folder; check the path.'
        )
    with path.open('rb') as file:
        start = file.read(4)
    if h5py.is_hdf5(path):
        return 'HDF5'
    kind = _STARTS.get(start) or _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise InputError(
            f'Expected the {what} {path} as TIFF, HDF5 or PNG, found a file of another kind; '
            'convert it to one of them, for instance with Fiji, or with tifffile.imwrite in Python.'
        )
    return kind
