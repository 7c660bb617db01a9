"""Writes zarr (v2, v3), N5 and Neuroglancer precomputed through tensorstore."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from taclnet_jax.errors import InputError
from taclnet_jax.files import replacing
from taclnet_jax.volumes.chunked import DRIVERS, Store, context
from taclnet_jax.volumes.metadata import n5_attributes, ome_attributes, plain_attributes
from taclnet_jax.volumes.sections import Content, Geometry, LazySections, listed, place, slabs

_LEVEL = {'zarr2': '0', 'zarr3': '0', 'n5': 's0'}
_GROUP_FILES: dict[str, tuple[str, dict[str, Any]]] = {
    'zarr2': ('.zgroup', {'zarr_format': 2}),
    'zarr3': ('zarr.json', {'zarr_format': 3, 'node_type': 'group', 'attributes': {}}),
    'n5': ('attributes.json', {'n5': '2.5.0'}),
}
# Images get coarser levels until they fit on a screen.
_COARSEST_PX = 512
_SEGMENTATION_TYPES = ('uint32', 'uint64')


def write_container(path: Path, content: Content, format_: str) -> None:
    """Writes an array into a zarr or N5 folder, in which others are kept if it has a name.

    Without one the folder is made anew: an OME-Zarr image in levels (`coarser`), or an N5 pyramid
    of one level, s0.

    Raises:
        InputError: there is something else in the folder.
    """
    _check_replaceable(path, format_, content.dataset)
    if content.dataset and path.exists():  # one more array
        with replacing(path / content.dataset) as partial:
            _write_node(partial, format_, content)
            _write_groups(path, format_, content.dataset)
        return
    where = content.dataset or _LEVEL[format_]
    with replacing(path) as partial:
        _write_groups(partial, format_, where)
        _write_node(partial / where, format_, content)
        if content.dataset or format_ == 'n5':
            return
        levels = [content.geometry]
        while max(content.array.shape[1:]) > _COARSEST_PX:
            content = coarser(partial / str(len(levels) - 1), format_, content)
            _write_node(partial / str(len(levels)), format_, content)
            levels.append(content.geometry)
        if format_ == 'zarr2':
            _write_json(partial / '.zattrs', ome_attributes('0.4', levels))
        else:
            name, group = _GROUP_FILES[format_]
            _write_json(partial / name, group | {'attributes': ome_attributes('0.5', levels)})


def coarser(folder: Path, format_: str, content: Content) -> Content:
    """The next level of an image: half of it in y and x, which anisotropic volumes have to spare.

    Of each 2x2 pixels it has the mean, or of numbers of segments the one that most of them are.

    Args:
        folder: of the level before, which is written.
        format_: of `DRIVERS`.
        content: of the level before.
    """
    kvstore = {'driver': 'file', 'path': f'{os.path.abspath(folder)}/'}
    spec: dict[str, Any] = {'driver': DRIVERS[format_], 'kvstore': kvstore}
    if format_ == 'precomputed':
        spec['scale_metadata'] = {'resolution': list((content.geometry.resolution_nm or ())[::-1])}
    before = ts.open(spec, read=True, open=True, context=context()).result()
    if format_ == 'precomputed':
        before = before[ts.d['channel'][0]][ts.d[:].translate_to[0]].T
    numbers = content.array.dtype.kind in 'iu' and content.array.dtype.itemsize > 1
    halves = ts.downsample(before, [1, 2, 2], 'mode' if numbers else 'mean')
    array = LazySections(
        halves.shape, content.array.dtype, lambda z, *crop: halves[z, *crop].read().result()
    )
    size, offset = content.geometry
    if size is not None:
        moved = tuple(n / 2 for n in size)
        if offset is not None or format_ != 'precomputed':
            z, y, x = offset or (0.0, 0.0, 0.0)
            offset = (z, y + moved[1], x + moved[2])  # of the first pixel's centre
        size = (size[0], 2 * size[1], 2 * size[2])
    return content._replace(array=array, geometry=Geometry(size, offset))


def write_precomputed(path: Path, content: Content) -> None:
    """Writes a Neuroglancer precomputed volume in scales (`coarser`).

    uint32 and uint64 become a segmentation, compressed as Neuroglancer's; other types an image.

    Raises:
        InputError: the folder is taken, the voxel size missing, or the offset no multiple of it.
    """
    _check_replaceable(path, 'precomputed', '')
    dtype = content.array.dtype.name
    labels = dtype in _SEGMENTATION_TYPES
    multiscale = {
        'type': 'segmentation' if labels else 'image',
        'data_type': dtype,
        'num_channels': 1,
    }
    z, y, x = offset_voxels(path, content.geometry)

    def write(folder: Path, content: Content, factor: int) -> None:
        scale: dict[str, Any] = {
            'size': list(content.array.shape[::-1]),
            'resolution': list((content.geometry.resolution_nm or ())[::-1]),
            'voxel_offset': [x // factor, y // factor, z],
            'chunk_size': list(content.chunk[::-1]),
            'encoding': 'compressed_segmentation' if labels else 'raw',
        }
        if labels:
            scale['compressed_segmentation_block_size'] = [8, 8, 8]
        metadata = {'multiscale_metadata': multiscale, 'scale_metadata': scale}
        _write(folder, 'precomputed', metadata, content)

    with replacing(path) as partial:
        write(partial, content, factor := 1)
        while max(content.array.shape[1:]) > _COARSEST_PX:
            content, factor = coarser(partial, 'precomputed', content), 2 * factor
            write(partial, content, factor)


def _write_node(folder: Path, format_: str, content: Content) -> None:
    """Writes the array itself into a new folder; the group around an image has its voxel size."""
    attributes = plain_attributes(content.geometry) if content.dataset else {}
    if format_ == 'zarr2':
        metadata: dict[str, Any] = {
            'dtype': np.dtype(content.array.dtype).str,
            'compressor': {'id': 'blosc', 'cname': 'zstd', 'clevel': 5, 'shuffle': 1},
            'dimension_separator': '/',
            'fill_value': 0,
        }
    elif format_ == 'zarr3':
        blosc = {'cname': 'zstd', 'clevel': 5, 'shuffle': 'shuffle'}
        metadata = {
            'codecs': [
                {'name': 'bytes', 'configuration': {'endian': 'little'}},
                {'name': 'blosc', 'configuration': blosc},
            ],
            'dimension_names': ['z', 'y', 'x'],
            'attributes': attributes,
        }
    else:
        metadata = {'compression': {'type': 'gzip'}, **n5_attributes(content.geometry)}
    order = slice(None, None, -1 if format_ == 'n5' else 1)
    schema = {
        'dtype': content.array.dtype.name,
        'domain': {'shape': content.array.shape[order]},
        'chunk_layout': {'chunk': {'shape': content.chunk[order]}},
    }
    _write(folder, format_, {'metadata': metadata, 'schema': schema}, content)
    if format_ == 'zarr2' and attributes:
        _write_json(folder / '.zattrs', attributes)


def _write_groups(folder: Path, format_: str, dataset: str) -> None:
    """Makes the groups around an array where they are not there yet."""
    name, content = _GROUP_FILES[format_]
    groups = [folder, *(folder / p for p in reversed(Path(dataset).parents) if p != Path('.'))]
    for group in groups:
        group.mkdir(parents=True, exist_ok=True)
        if not (group / name).exists():
            _write_json(group / name, content if group == folder or format_ != 'n5' else {})


def _check_replaceable(folder: Path, format_: str, dataset: str) -> None:
    """Refuses to write into or over a folder that is not of this format and this package."""
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
        for above in [str(p) for p in Path(dataset).parents if p != Path('.')]:
            if (group := store.node(above)) is not None and group.array is not None:
                raise InputError(
                    f'Cannot write {place(str(folder), dataset)}: {above} is an array, and holds '
                    'no others; choose another dataset.'
                )
        if root.array is not None:
            raise InputError(
                f'Cannot write the dataset {dataset!r} into {folder}, which is an array itself; '
                'choose another folder.'
            )
        return
    if format_ == 'precomputed':
        ours = {'info', *(scale['key'] for scale in root.attributes['scales'])}
    else:
        levels = {name for name in os.listdir(folder) if name.isdecimal() or name == 's0'}
        ours = {_GROUP_FILES[format_][0], '.zattrs', *levels}
    others = sorted(set(os.listdir(folder)) - ours)
    if others:
        raise InputError(
            f'Cannot replace {folder}: it holds more than one volume ({listed(others, 10)}); '
            'choose another name, or name a dataset to add.'
        )


def offset_voxels(path: Path, geometry: Geometry) -> list[int]:
    """Of the first voxel, (z, y, x).

    Raises:
        InputError: precomputed cannot store it.
    """
    resolution_nm, offset_nm = geometry
    if resolution_nm is None:
        raise InputError(
            f'Expected a voxel size for {path}: precomputed cannot do without; give it (commands '
            'take --voxel_nm), or choose another format.'
        )
    if offset_nm is None:
        return [0, 0, 0]
    exact = np.divide(offset_nm, resolution_nm)
    voxels = np.rint(exact).astype(int)
    if not np.allclose(exact, voxels, rtol=0, atol=1e-6):
        raise InputError(
            f'Expected the offset of {path.name} as whole voxels, which precomputed needs, found '
            f'{offset_nm} nm with voxels of {resolution_nm} nm; choose zarr, N5 or HDF5.'
        )
    return voxels.tolist()


def _write(folder: Path, format_: str, metadata: dict[str, Any], content: Content) -> None:
    """Creates an array on disk and copies the volume slab by slab."""
    kvstore = {'driver': 'file', 'path': f'{os.path.abspath(folder)}/'}
    # A chunk that is not there is a lost one.
    stored = {'store_data_equal_to_fill_value': True}
    spec = {'driver': DRIVERS[format_], 'kvstore': kvstore, **stored, **metadata}
    try:
        target = ts.open(spec, create=True).result()
        if format_ == 'precomputed':
            target = target[ts.d['channel'][0]][ts.d[:].translate_to[0]]
        if format_ in ('precomputed', 'n5'):
            target = target.T
        for depth, rows, slab in slabs(content):
            target[depth, rows].write(slab).result()
    except (ValueError, NotImplementedError) as error:
        if isinstance(error, InputError):  # of the array that is read
            raise
        # tensorstore ends its message with the system's: No space left on device
        raise OSError(str(error).split(' [')[0].rsplit(': ', 1)[-1]) from error


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + '\n')
