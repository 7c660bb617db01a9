"""Writes zarr (v2, v3), N5 and Neuroglancer precomputed through tensorstore."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from taclnet_jax.errors import InputError
from taclnet_jax.volumes.chunked import Store
from taclnet_jax.volumes.chunked_metadata import n5_attributes, ome_attributes, plain_attributes
from taclnet_jax.volumes.sections import Sections, Triple, place
from taclnet_jax.volumes.slabs import read_slab, slabs

CONTAINERS = ('zarr2', 'zarr3', 'n5')
_LEVEL = {'zarr2': '0', 'zarr3': '0', 'n5': 's0'}
_OURS = {
    'zarr2': {'.zgroup', '.zattrs', '0'},
    'zarr3': {'zarr.json', '0'},
    'n5': {'attributes.json', 's0'},
}
_GROUP_FILES: dict[str, tuple[str, dict[str, Any]]] = {
    'zarr2': ('.zgroup', {'zarr_format': 2}),
    'zarr3': ('zarr.json', {'zarr_format': 3, 'node_type': 'group', 'attributes': {}}),
    'n5': ('attributes.json', {'n5': '2.5.0'}),
}
_SEGMENTATION_TYPES = ('uint32', 'uint64')


def write_container(
    folder: Path,
    format_: str,
    array: Sections,
    dataset: str,
    chunk: tuple[int, int, int],
    resolution_nm: Triple | None,
    offset_nm: Triple | None,
) -> None:
    """Writes an array into a new zarr or N5 folder.

    Without a name for the array, zarr becomes an OME-Zarr image of one level, 0, and N5 a pyramid
    of one level, s0; with one, the array has attributes of its own.

    Args:
        folder: to be made.
        format_: zarr2, zarr3 or n5.
        array: any numeric type (N5: no float16).
        dataset: name of the array within the folder, '' for an image.
        chunk: (z, y, x) voxels.
        resolution_nm: voxel size.
        offset_nm: position of the first voxel.
    """
    write_groups(folder, format_, f'{dataset or _LEVEL[format_]}')
    where = folder / (dataset or _LEVEL[format_])
    write_node(where, format_, array, not dataset, chunk, resolution_nm, offset_nm)
    if dataset or format_ == 'n5':
        return
    if format_ == 'zarr2':
        _write_json(folder / '.zattrs', ome_attributes('0.4', '0', resolution_nm, offset_nm))
    else:
        name, group = _GROUP_FILES['zarr3']
        attributes = ome_attributes('0.5', '0', resolution_nm, offset_nm)
        _write_json(folder / name, group | {'attributes': attributes})


def write_node(
    folder: Path,
    format_: str,
    array: Sections,
    is_level: bool,
    chunk: tuple[int, int, int],
    resolution_nm: Triple | None,
    offset_nm: Triple | None,
) -> None:
    """Writes the array itself, into a new folder.

    Args:
        folder: to be made.
        format_: zarr2, zarr3 or n5.
        array: any numeric type (N5: no float16).
        is_level: whether a group around it has its voxel size (OME-Zarr).
        chunk: (z, y, x) voxels.
        resolution_nm: voxel size.
        offset_nm: position of the first voxel.
    """
    dtype, shape = np.dtype(array.dtype), list(array.shape)
    attributes = {} if is_level else plain_attributes(resolution_nm, offset_nm)
    if format_ == 'zarr2':
        metadata: dict[str, Any] = {
            'shape': shape,
            'chunks': list(chunk),
            'dtype': dtype.str,
            'compressor': {'id': 'blosc', 'cname': 'zstd', 'clevel': 5, 'shuffle': 1},
            'dimension_separator': '/',
            'fill_value': 0,
        }
    elif format_ == 'zarr3':
        metadata = {
            'shape': shape,
            'data_type': dtype.name,
            'chunk_grid': {'name': 'regular', 'configuration': {'chunk_shape': list(chunk)}},
            'codecs': [
                {'name': 'bytes', 'configuration': {'endian': 'little'}},
                {
                    'name': 'blosc',
                    'configuration': {'cname': 'zstd', 'clevel': 5, 'shuffle': 'shuffle'},
                },
            ],
            'fill_value': 0,
            'dimension_names': ['z', 'y', 'x'],
            'attributes': attributes,
        }
    else:
        metadata = {
            'dimensions': shape[::-1],
            'blockSize': list(chunk[::-1]),
            'dataType': dtype.name,
            'compression': {'type': 'gzip'},
            **n5_attributes(resolution_nm, offset_nm),
        }
    driver = 'zarr' if format_ == 'zarr2' else format_
    _write({'driver': driver, 'metadata': metadata}, folder, array, chunk)
    if format_ == 'zarr2' and attributes:
        _write_json(folder / '.zattrs', attributes)


def write_precomputed(
    folder: Path,
    array: Sections,
    chunk: tuple[int, int, int],
    resolution_nm: Triple,
    offset_nm: Triple | None,
) -> None:
    """Writes a Neuroglancer precomputed volume of one scale into a new folder.

    uint32 and uint64 become a segmentation, compressed as Neuroglancer does it; other types an
    image.

    Args:
        folder: to be made.
        array: integers (not int64) or float32.
        chunk: (z, y, x) voxels.
        resolution_nm: voxel size.
        offset_nm: a multiple of the voxel size.

    Raises:
        InputError: the offset is none.
    """
    dtype = np.dtype(array.dtype).name
    labels = dtype in _SEGMENTATION_TYPES
    scale: dict[str, Any] = {
        'size': list(array.shape[::-1]),
        'resolution': list(resolution_nm[::-1]),
        'voxel_offset': _offset_voxels(folder, resolution_nm, offset_nm)[::-1],
        'chunk_size': list(chunk[::-1]),
        'encoding': 'compressed_segmentation' if labels else 'raw',
    }
    if labels:
        scale['compressed_segmentation_block_size'] = [8, 8, 8]
    spec = {
        'driver': 'neuroglancer_precomputed',
        'multiscale_metadata': {
            'type': 'segmentation' if labels else 'image',
            'data_type': dtype,
            'num_channels': 1,
        },
        'scale_metadata': scale,
    }
    _write(spec, folder, array, chunk)


def write_groups(folder: Path, format_: str, dataset: str) -> None:
    """Makes the groups around an array where they are not there yet."""
    name, content = _GROUP_FILES[format_]
    groups = [folder, *(folder / p for p in reversed(Path(dataset).parents) if p != Path('.'))]
    for group in groups:
        group.mkdir(parents=True, exist_ok=True)
        if not (group / name).exists():
            _write_json(group / name, content if group == folder or format_ != 'n5' else {})


def check_replaceable(folder: Path, format_: str, dataset: str) -> None:
    """Refuses to write into or over a folder that is not of this format and this package.

    Raises:
        InputError: see above.
    """
    if not folder.exists() or not os.listdir(folder):
        return
    store = Store(str(folder), 'volume')
    root = store.node('')
    if root is None or root.format != format_:
        raise InputError(
            f'Cannot write {folder} as {format_}: there is a folder of that name with something '
            'else in it; choose another name or remove it.'
        )
    if dataset:
        node = store.node(dataset)
        if node is None and (folder / dataset).exists() or node is not None and node.array is None:
            raise InputError(
                f'Cannot write {place(str(folder), dataset)}: there is a group or folder of that '
                'name; choose another dataset.'
            )
        if root.array is not None:
            raise InputError(
                f'Cannot write the dataset {dataset!r} into {folder}, which is an array itself; '
                'choose another folder.'
            )
        return
    ours = _OURS.get(format_) or {'info', *(scale['key'] for scale in root.attributes['scales'])}
    others = sorted(set(os.listdir(folder)) - ours)
    if others:
        raise InputError(
            f'Cannot replace {folder}: it holds more than one volume ({", ".join(others[:10])}); '
            'choose another name, or name a dataset to add.'
        )


def _offset_voxels(folder: Path, resolution_nm: Triple, offset_nm: Triple | None) -> list[int]:
    if offset_nm is None:
        return [0, 0, 0]
    exact = [offset / size for offset, size in zip(offset_nm, resolution_nm, strict=True)]
    voxels = [round(count) for count in exact]
    if not np.allclose(exact, voxels, rtol=0, atol=1e-6):
        raise InputError(
            f'Expected the offset of {folder.name} as whole voxels, which precomputed needs, found '
            f'{offset_nm} nm with voxels of {resolution_nm} nm; choose zarr, N5 or HDF5.'
        )
    return voxels


def _write(
    spec: dict[str, Any], folder: Path, array: Sections, chunk: tuple[int, int, int]
) -> None:
    """Creates an array on disk and copies the volume slab by slab."""
    kvstore = {'driver': 'file', 'path': f'{os.path.abspath(folder)}/'}
    try:
        target = ts.open({**spec, 'kvstore': kvstore}, create=True).result()
        if spec['driver'] == 'neuroglancer_precomputed':
            target = target[ts.d['channel'][0]][ts.d[:].translate_to[0]]
        if spec['driver'] in ('neuroglancer_precomputed', 'n5'):
            target = target.T
        for depth, rows in slabs(array.shape, chunk, np.dtype(array.dtype).itemsize):
            target[depth, rows].write(read_slab(array, depth, rows)).result()
    except (ValueError, NotImplementedError) as error:
        if isinstance(error, InputError):  # of the array that is read
            raise
        # tensorstore ends its message with the system's: No space left on device
        raise OSError(str(error).split(' [')[0].rsplit(': ', 1)[-1]) from error


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + '\n')
