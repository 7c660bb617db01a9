"""Writes a volume in any of the formats that can be read, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from taclnet_jax.errors import InputError
from taclnet_jax.volumes import chunked_writing, hdf5, section_files
from taclnet_jax.volumes.sections import LazySections, Sections, Triple, check_type
from taclnet_jax.volumes.tiff import write_tiff

FORMATS = ('tiff', 'png', 'hdf5', 'zarr2', 'zarr3', 'n5', 'precomputed')
# zarr v2 is what all readers of zarr know.
_BY_SUFFIX = {
    '.tif': 'tiff',
    '.tiff': 'tiff',
    '.h5': 'hdf5',
    '.hdf': 'hdf5',
    '.hdf5': 'hdf5',
    '.zarr': 'zarr2',
    '.n5': 'n5',
    '.precomputed': 'precomputed',
}
_INTEGERS = {f'{sign}int{bits}' for sign in ('', 'u') for bits in (8, 16, 32, 64)}
_TYPES = {
    'png': {'uint8', 'uint16'},
    'n5': _INTEGERS | {'float32', 'float64'},
    'precomputed': _INTEGERS - {'int64'} | {'float32'},
}
_CHUNK = (16, 128, 128)


def write_array(
    path: str | os.PathLike[str],
    array: Sections,
    *,
    format: str | None = None,
    dataset: str = '',
    resolution_nm: Sequence[float] | None = None,
    offset_nm: Sequence[float] | None = None,
    chunk: Sequence[int] = _CHUNK,
) -> None:
    """Writes a volume, slab by slab, so that `open_array` gives the same one back.

    It is written beside its place and renamed: what is there of the same name is replaced only
    when the new one is complete, and a folder with anything else in it is not touched.

    Args:
        path: file or folder to write.
        array: `[z, y, x]`, integers, floats or booleans, which become 0 and 255. Never in memory
            as a whole, unless it is already.
        format: of `FORMATS`, 'png' a folder of sections. Guessed from the suffix if None: .tif,
            .h5, .zarr (zarr v2), .n5, .precomputed.
        dataset: the array within HDF5, zarr or N5. Others in the same container are kept. '' is
            'main' in HDF5, an OME-Zarr image in zarr, a pyramid of one level in N5.
        resolution_nm: voxel size (z, y, x) in nm. Precomputed needs it, PNG cannot store it.
        offset_nm: position of the first voxel (z, y, x) in nm. PNG and TIFF can only be at 0.
        chunk: (z, y, x) voxels of HDF5, zarr, N5 and precomputed.

    Raises:
        InputError: the format cannot store what is given, something else is in the place, or the
            disk is full.
    """
    path = Path(path)
    chosen = _format(path, format)
    array = _storable(array, chosen, path)
    resolution_nm, offset_nm = _triple(resolution_nm), _triple(offset_nm)
    dataset = dataset.strip('/')
    _check_metadata(path, chosen, dataset, resolution_nm, offset_nm)
    depth, height, width = map(max, map(min, chunk, array.shape), (1, 1, 1))
    blocks = depth, height, width
    with _system_errors(path):
        _check_place(path, chosen)
        if chosen == 'tiff':
            with _replacing(path) as partial, partial.open('wb') as file:
                write_tiff(file, array, resolution_nm)
                file.flush()
                os.fsync(file.fileno())
        elif chosen == 'png':
            with _replacing(path) as partial:
                section_files.write_png_sections(partial, array)
        elif chosen == 'hdf5':
            dataset = dataset or hdf5.DEFAULT_DATASET
            hdf5.check_replaceable(path, dataset)
            with _replacing(path) as partial:
                hdf5.write_hdf5(partial, path, array, dataset, blocks, resolution_nm, offset_nm)
        else:
            _write_chunked(path, chosen, array, dataset, blocks, resolution_nm, offset_nm)


def write_stack(
    path: str | os.PathLike[str],
    array: Sections,
    resolution_nm: Sequence[float] | None = None,
) -> None:
    """Writes a z stack as zlib-compressed TIFF, whole or not at all.

    Args:
        path: where to write; an existing file is replaced only when the new one is complete.
        array: `[z, y, x]` of any numeric type; booleans become 0 and 255.
        resolution_nm: voxel size (z, y, x) in nm.

    Raises:
        InputError: the file cannot be written, for instance because the disk is full.
    """
    write_array(path, array, format='tiff', resolution_nm=resolution_nm)


def _write_chunked(
    path: Path,
    chosen: str,
    array: Sections,
    dataset: str,
    chunk: tuple[int, int, int],
    resolution_nm: Triple | None,
    offset_nm: Triple | None,
) -> None:
    chunked_writing.check_replaceable(path, chosen, dataset)
    if dataset and path.exists():  # one more array in a container
        with _replacing(path / dataset, beside=path) as partial:
            chunked_writing.write_node(
                partial, chosen, array, False, chunk, resolution_nm, offset_nm
            )
            chunked_writing.write_groups(path, chosen, dataset)
        return
    with _replacing(path) as partial:
        if chosen == 'precomputed':
            assert resolution_nm is not None
            chunked_writing.write_precomputed(partial, array, chunk, resolution_nm, offset_nm)
        else:
            chunked_writing.write_container(
                partial, chosen, array, dataset, chunk, resolution_nm, offset_nm
            )


def _format(path: Path, format_: str | None) -> str:
    chosen = format_ or _BY_SUFFIX.get(path.suffix.lower())
    if chosen is None:
        raise InputError(
            f'Expected a path that ends in one of {", ".join(_BY_SUFFIX)}, found {path}; choose '
            f'such a name, or one of the formats {", ".join(FORMATS)}.'
        )
    if chosen not in FORMATS:
        raise InputError(f'Expected one of the formats {", ".join(FORMATS)}, found {chosen!r}.')
    return chosen


def _storable(array: Sections, format_: str, path: Path) -> Sections:
    """The array in a type that the format has, 0 and 255 for booleans."""
    dtype = np.dtype(array.dtype)
    if len(array.shape) != 3 or 0 in array.shape:
        raise InputError(f'Expected a stack [z, y, x] for {path}, found shape {array.shape}.')
    check_type(dtype, 'array for', str(path))
    source = array
    if dtype.kind == 'b':
        dtype = np.dtype(np.uint8)
        array = LazySections(
            array.shape, dtype, lambda z, *crop: np.asarray(source[z, *crop], np.uint8) * 255
        )
    elif not dtype.isnative:
        array = LazySections(array.shape, dtype, lambda z, *crop: source[z, *crop])
    types = _TYPES.get(format_)
    if types is not None and dtype.name not in types:
        raise InputError(
            f'Expected {path} as one of the types that {format_} can store '
            f'({", ".join(sorted(types))}), found {dtype}; convert it or choose another format.'
        )
    return array


def _triple(values: Sequence[float] | None) -> Triple | None:
    if values is None:
        return None
    z, y, x = (float(value) for value in values)
    return z, y, x


def _check_place(path: Path, format_: str) -> None:
    """Refuses to put a file in place of a folder, and a folder in place of a foreign one."""
    if format_ in ('tiff', 'hdf5'):
        if path.is_dir():
            raise InputError(
                f'Cannot write the file {path}: there is a folder of that name; choose another.'
            )
    elif path.exists() and not path.is_dir():
        raise InputError(
            f'Cannot write the folder {path}: there is a file of that name; choose another.'
        )
    elif format_ == 'png' and path.exists() and not section_files.is_written_by_us(path):
        raise InputError(
            f'Cannot write {path} as PNG sections: there is a folder of that name with something '
            'else in it; choose another name or remove it.'
        )


def _check_metadata(
    path: Path,
    format_: str,
    dataset: str,
    resolution_nm: Triple | None,
    offset_nm: Triple | None,
) -> None:
    others = 'choose HDF5, zarr, N5 or precomputed'
    if dataset and format_ not in ('hdf5', *chunked_writing.CONTAINERS):
        raise InputError(f'Expected no dataset for {path}: {format_} holds one array only.')
    if resolution_nm is not None and not all(0 < nm < np.inf for nm in resolution_nm):
        raise InputError(
            f'Expected a voxel size (z, y, x) in nm above 0 for {path}, found {resolution_nm}.'
        )
    if format_ == 'png' and resolution_nm is not None:
        raise InputError(f'PNG sections cannot store a voxel size ({path}); {others}, or TIFF.')
    if format_ in ('png', 'tiff') and any(offset_nm or ()):
        raise InputError(f'{format_.upper()} cannot store an offset ({path}); {others}.')
    if any(offset_nm or ()) and resolution_nm is None:
        raise InputError(f'Expected a voxel size with the offset for {path}; give both.')
    if format_ == 'precomputed' and resolution_nm is None:
        raise InputError(f'Expected a voxel size for {path}: precomputed cannot do without.')


@contextlib.contextmanager
def _replacing(target: Path, beside: Path | None = None) -> Iterator[Path]:
    """Gives a name to write to; what is written there takes the target's place at the end.

    Args:
        target: file or folder.
        beside: the folder to write in, that of the target by default.
    """
    folder = beside or target.parent
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f'.{target.name}.{secrets.token_hex(4)}.partial'
    try:
        yield partial
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            old = partial.with_suffix('.old')
            os.rename(target, old)
            try:
                os.rename(partial, target)
            except OSError:
                os.rename(old, target)
                raise
            shutil.rmtree(old)
        else:
            os.replace(partial, target)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f'Cannot write {path}: {error.strerror or error}; nothing was changed there.'
        ) from error
