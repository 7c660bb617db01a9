"""Writes a volume in any of the formats that can be read, whole or not at all."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from taclnet_jax.errors import InputError
from taclnet_jax.files import explained
from taclnet_jax.volumes.chunked_writing import offset_voxels, write_container, write_precomputed
from taclnet_jax.volumes.hdf5 import write_hdf5
from taclnet_jax.volumes.opening import local_path
from taclnet_jax.volumes.section_files import write_png_sections
from taclnet_jax.volumes.sections import Content, Geometry, Sections, Triple, check_stack, mapped
from taclnet_jax.volumes.tiff import write_tiff

_INTEGERS = frozenset(f'{sign}int{bits}' for sign in ('', 'u') for bits in (8, 16, 32, 64))
_CHUNK = (16, 128, 128)


class Format(NamedTuple):
    """A format that is written, and what it can hold."""

    write: Callable[[Path, Content], None]  # replaces what may be replaced there
    suffixes: tuple[str, ...] = ()  # of paths that mean this format
    is_folder: bool = True
    datasets: bool = False  # several arrays, each with a name
    types: frozenset[str] | None = None  # None = all
    resolution: bool = True
    offset: bool = True  # the position of the first voxel


_FORMATS = {
    'tiff': Format(write_tiff, ('.tif', '.tiff'), is_folder=False, offset=False),
    'png': Format(
        write_png_sections, types=frozenset({'uint8', 'uint16'}), resolution=False, offset=False
    ),
    'hdf5': Format(write_hdf5, ('.h5', '.hdf', '.hdf5'), is_folder=False, datasets=True),
    # What all readers of zarr know.
    'zarr2': Format(partial(write_container, format_='zarr2'), ('.zarr',), datasets=True),
    'zarr3': Format(partial(write_container, format_='zarr3'), datasets=True),
    'n5': Format(
        partial(write_container, format_='n5'),
        ('.n5',),
        datasets=True,
        types=_INTEGERS | {'float32', 'float64'},
    ),
    'precomputed': Format(
        write_precomputed, ('.precomputed',), types=_INTEGERS - {'int64'} | {'float32'}
    ),
}
FORMATS = tuple(_FORMATS)

ENDINGS = {'tiff': '.tif', 'hdf5': '.h5', 'zarr2': '.zarr', 'zarr3': '.zarr', 'n5': '.n5'}
"""Of the files and folders that this package names; the other formats are folders without one."""
_BY_SUFFIX = {suffix: name for name, kind in _FORMATS.items() for suffix in kind.suffixes}


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
    place = local_path(os.fspath(path))
    if '://' in place:
        raise InputError(
            f'Expected a file or folder to write, found the address {place}; write a folder, and '
            'copy it there.'
        )
    path = Path(place)
    name = _format(path, format)
    dataset = dataset.strip('/')
    array = _native(array)
    geometry = _checked(path, array.shape, array.dtype, name, dataset, resolution_nm, offset_nm)
    depth, height, width = map(max, map(min, chunk, array.shape), (1, 1, 1))
    with explained(path):
        if path.exists() and path.is_dir() != _FORMATS[name].is_folder:
            wanted, found = ('file', 'folder') if path.is_dir() else ('folder', 'file')
            raise InputError(
                f'Cannot write the {wanted} {path}: there is a {found} of that name; choose '
                'another.'
            )
        content = Content(array, dataset, (depth, height, width), geometry)
        _FORMATS[name].write(path, content)


def check_array(
    path: str | os.PathLike[str],
    shape: Sequence[int],
    dtype: DTypeLike,
    format: str,
    *,
    resolution_nm: Sequence[float] | None = None,
    offset_nm: Sequence[float] | None = None,
) -> None:
    """Refuses what `write_array` would refuse of an array, but for what stands in its place.

    Args:
        path: what it is to be called, for the messages.
        shape: (sections, height, width).
        dtype: of its voxels.
        format, resolution_nm, offset_nm: as of `write_array`.

    Raises:
        InputError: the format cannot store it.
    """
    path = Path(path)
    name = _format(path, format)
    _checked(path, tuple(shape), np.dtype(dtype), name, '', resolution_nm, offset_nm)


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


def _native(array: Sections) -> Sections:
    """The array in the machine's byte order, 0 and 255 for booleans."""
    if len(array.shape) == 3 and array.dtype.kind == 'b':
        return mapped(array, np.uint8, lambda crop: np.asarray(crop, np.uint8) * 255)
    if len(array.shape) == 3 and not array.dtype.isnative:
        return mapped(array, array.dtype, lambda crop: crop)
    return array


def _checked(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype,
    name: str,
    dataset: str,
    resolution_nm: Sequence[float] | None,
    offset_nm: Sequence[float] | None,
) -> Geometry:
    """The geometry of an array that a format can store."""
    if len(shape) != 3 or 0 in shape:
        raise InputError(f'Expected a stack [z, y, x] for {path}, found shape {shape}.')
    check_stack(shape, dtype, 'array for', str(path))
    types = _FORMATS[name].types
    if types is not None and dtype.name not in types:
        raise InputError(
            f'Expected {path} as one of the types that {name} can store '
            f'({", ".join(sorted(types))}), found {dtype}; convert it or choose another format.'
        )
    geometry = Geometry(_triple(resolution_nm), _triple(offset_nm))
    _check_metadata(path, name, dataset, geometry)
    if name == 'precomputed':
        offset_voxels(path, geometry)
    return geometry


def _triple(values: Sequence[float] | None) -> Triple | None:
    if values is None:
        return None
    try:
        z, y, x = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise InputError(
            f'Expected voxel size and offset as three numbers (z, y, x) in nm, found {values}.'
        ) from error
    return z, y, x


def _check_metadata(path: Path, name: str, dataset: str, geometry: Geometry) -> None:
    resolution_nm, offset_nm = geometry
    chosen, others = _FORMATS[name], 'choose HDF5, zarr, N5 or precomputed'
    if dataset and not chosen.datasets:
        raise InputError(f'Expected no dataset for {path}: {name} holds one array only.')
    if resolution_nm is not None and not all(0 < nm < np.inf for nm in resolution_nm):
        raise InputError(
            f'Expected a voxel size (z, y, x) in nm above 0 for {path}, found {resolution_nm}.'
        )
    if resolution_nm is not None and not chosen.resolution:
        raise InputError(
            f'{name.upper()} sections cannot store a voxel size ({path}); {others}, or TIFF.'
        )
    if any(offset_nm or ()) and not chosen.offset:
        raise InputError(f'{name.upper()} cannot store an offset ({path}); {others}.')
    if any(offset_nm or ()) and resolution_nm is None:
        raise InputError(f'Expected a voxel size with the offset for {path}; give both.')
