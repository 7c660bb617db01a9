"""zarr (v2, v3), N5 and Neuroglancer precomputed through tensorstore: folders and addresses."""

import contextlib
import functools
import os
import re
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from taclnet_jax.errors import InputError
from taclnet_jax.files import parse_json
from taclnet_jax.volumes.axes import Axes, find_axes
from taclnet_jax.volumes.claims import check_chunk, check_chunks, chunk_files
from taclnet_jax.volumes.metadata import (
    array_axis_names,
    first_level,
    n5_geometry,
    ome_axis_names,
    ome_geometry,
    plain_geometry,
    precomputed_geometry,
)
from taclnet_jax.volumes.section_files import SUFFIXES
from taclnet_jax.volumes.sections import (
    Geometry,
    StoredArray,
    check_stack,
    listed,
    place,
    problems_of,
)

METADATA = ('zarr.json', '.zarray', '.zgroup', '.zattrs', 'attributes.json', 'info')
"""Names of the files and objects that make arrays and groups of chunks."""

ADDRESSES = ('gs://', 's3://', 'http://', 'https://')
# Decoded chunks of all open arrays together.
_CACHE_BYTES = 2**28
# tensorstore's own 32 retries would keep a wrong address waiting for a quarter of an hour.
_RETRIES = {'max_retries': 5, 'initial_delay': '500ms', 'max_delay': '8s'}
_LISTED = 20
_VISITED = 2000
DRIVERS = {'zarr2': 'zarr', 'zarr3': 'zarr3', 'n5': 'n5', 'precomputed': 'neuroglancer_precomputed'}


@dataclass(frozen=True)
class Node:
    """What the metadata at one place of a store say."""

    format: str  # of DRIVERS
    array: dict[str, Any] | None  # None for a group
    attributes: dict[str, Any] = field(default_factory=dict)  # what users added

    def describe(self) -> str:
        """Shape and type of an array, for messages."""
        array = self.array or {}
        shape = array.get('shape') or array.get('dimensions')
        dtype = array.get('data_type') or array.get('dataType') or array.get('dtype')
        with contextlib.suppress(TypeError):  # zarr v2 has numpy's codes
            dtype = np.dtype(dtype).name
        return f'{tuple(shape or ())} {dtype}'


class Store:
    """A folder, or an address that starts as one of `ADDRESSES`, and the metadata in it."""

    def __init__(self, path: str, what: str) -> None:
        self.path = path
        self.what = what
        self.is_folder = '://' not in path
        self._denied: Exception | None = None
        try:
            self._store = open_kvstore(os.path.abspath(path) if self.is_folder else path)
        except (ValueError, NotImplementedError) as error:
            raise self.unreadable('', error) from error

    def spec(self, where: str) -> Any:
        """For tensorstore: the place `where` within the store."""
        return (self._store / f'{where}/' if where else self._store).spec().to_json()

    def node(self, where: str) -> Node | None:
        """What is at a place; None if it has no metadata that are known here.

        Raises:
            InputError: they cannot be read, or are no JSON.
        """
        prefix = f'{where}/' if where else ''
        if (found := self._json(f'{prefix}zarr.json')) is not None:
            is_array = found.get('node_type') == 'array'
            attributes = found.get('attributes')
            attributes = attributes if isinstance(attributes, dict) else {}
            return Node('zarr3', found if is_array else None, attributes)
        array = self._json(f'{prefix}.zarray')
        if array is not None or self._json(f'{prefix}.zgroup') is not None:
            return Node('zarr2', array, self._json(f'{prefix}.zattrs') or {})
        if (found := self._json(f'{prefix}attributes.json')) is not None:
            return Node('n5', found if 'dimensions' in found else None, found)
        if (found := self._json(f'{prefix}info')) is not None and 'scales' in found:
            return Node('precomputed', found, found)
        return None

    def arrays(self, where: str) -> dict[str, Node]:
        """The arrays in a group of a folder, by their place in the store.

        Folders only: other stores may hold millions of chunks, or cannot be listed.
        """
        found: dict[str, Node] = {}
        if not self.is_folder:
            return found
        for folder, folders, _ in islice(os.walk(os.path.join(self.path, where)), _VISITED):
            inside = os.path.relpath(folder, self.path)
            inside = '' if inside == '.' else inside
            node = self.node(inside)
            if node is not None and node.array is not None:
                found[inside] = node
                folders.clear()  # chunks
            folders.sort()
        return found

    def nothing_found(self, wanted: str) -> InputError:
        """The message for a place without an array."""
        if self._denied is not None:
            return self.unreadable('', self._denied)
        return InputError(
            f'Expected {wanted} in {self.path}, found no metadata of zarr, N5 or precomputed '
            'there; check the path and the dataset.'
        )

    def unreadable(self, where: str, error: Exception) -> InputError:
        """The message for what tensorstore raised."""
        reason = str(error).split(' [tensorstore_spec')[0].split(' [source')[0]
        return InputError(
            f'Cannot read the {self.what} {place(self.path, where)} ({reason}); check the path, '
            'the permissions and the connection, or copy it again if it is damaged.'
        )

    def _json(self, key: str) -> dict[str, Any] | None:
        try:
            answer = self._store.read(key).result()
        except (ValueError, NotImplementedError) as error:
            if not self.is_folder and 'PERMISSION_DENIED' in str(error):
                self._denied = error  # or not there: stores that hide their contents say so too
                return None
            raise self.unreadable(key, error) from error
        if answer.state != 'value':
            return None
        try:
            content = parse_json(answer.value)
        except ValueError as error:
            raise InputError(
                f'The metadata {key} of the {self.what} {self.path} are damaged ({error}); copy '
                'or export it again.'
            ) from error
        return content if isinstance(content, dict) else {}


@functools.cache
def context() -> ts.Context:
    """Limits that all arrays share."""
    return ts.Context(
        {
            'cache_pool': {'total_bytes_limit': _CACHE_BYTES},
            **{f'{store}_request_retries': _RETRIES for store in ('http', 'gcs', 's3')},
        }
    )


def open_kvstore(path: str) -> ts.KvStore:
    """The keys below a folder, given by its absolute path, or an address.

    AWS_ENDPOINT_URL is the server of s3:// addresses, as for AWS's own tools; tensorstore asks
    Amazon's alone by itself.
    """
    folder = path if path.endswith('/') else f'{path}/'
    if '://' not in path:
        return ts.KvStore.open({'driver': 'file', 'path': folder}, context=context()).result()
    spec = ts.KvStore.Spec(folder).to_json()
    if spec['driver'] == 's3' and (endpoint := os.environ.get('AWS_ENDPOINT_URL')):
        region = os.environ.get('AWS_REGION') or os.environ.get('AWS_DEFAULT_REGION')
        spec |= {'endpoint': endpoint, 'aws_region': region or 'us-east-1'}
    return ts.KvStore.open(spec, context=context()).result()


def is_chunked(folder: Path) -> bool:
    """Whether there is a folder, which holds the metadata of one of these formats."""
    if not folder.is_dir():
        return False
    if not any(file.suffix.lower() in SUFFIXES for file in folder.iterdir()):
        return folder.suffix in ('.zarr', '.n5', '.precomputed') or any(
            (folder / name).exists() for name in METADATA
        )
    # Beside sections these names may belong to anything; what is in the files tells.
    if any((folder / name).exists() for name in METADATA[:3]):
        return True
    try:
        node = Store(str(folder), 'folder').node('')
    except InputError:
        return False
    return node is not None and (
        node.array is not None
        or 'n5' in node.attributes
        or any((inside / 'attributes.json').exists() for inside in folder.iterdir())
    )


def open_chunked(path: str, dataset: str, what: str) -> StoredArray:
    """Opens an array of a folder, or of an address that starts as one of `ADDRESSES`.

    See `open_array` for the arguments.
    """
    with problems_of(f'{what} {path}', 'no zarr, N5 or precomputed'):
        return _opened(Store(path, what), dataset.strip('/'))


def _opened(store: Store, dataset: str) -> StoredArray:
    where, node = _find(store, dataset)
    path, what = store.path, store.what
    name = place(path, where)
    spec: dict[str, Any] = {
        'driver': DRIVERS[node.format],
        'kvstore': store.spec(where),
        'recheck_cached_data': 'open',
        'recheck_cached_metadata': 'open',
    }
    if node.format == 'precomputed':
        spec['scale_index'] = 0
    try:
        array = ts.open(spec, read=True, open=True, context=context()).result()
    except (ValueError, NotImplementedError) as error:
        raise _lacking(node, str(error), what, name) or store.unreadable(where, error) from error
    array = array[ts.d[:].translate_to[0]]
    dtype = array.dtype.numpy_dtype
    axes, geometry = _layout(store, where, node, array, name)
    check_stack(axes.shape, dtype, what, name)
    chunk: Any = array.chunk_layout.read_chunk.shape
    check_chunk(chunk, dtype, what, name)
    if store.is_folder:
        _count_chunks(os.path.join(store.path, where), node, array, what, name)

    def read(z: int, rows: slice, columns: slice) -> Any:
        try:
            crop = array[axes.key(z, rows, columns)].read(order='C').result()
        except (ValueError, NotImplementedError) as error:
            raise store.unreadable(where, error) from error
        return axes.turn(crop)

    return StoredArray(path, where, axes.shape, dtype, read, geometry)


def _find(store: Store, dataset: str) -> tuple[str, Node]:
    """The place of the array that is meant, and its metadata."""
    node = store.node(dataset)
    if node is not None and node.array is not None:
        return dataset, node
    prefix = f'{dataset}/' if dataset else ''
    level = first_level(node.attributes) if node is not None else None
    for finest in (level, 's0'):  # N5's pyramids are named s0, s1, ...
        inside = store.node(prefix + finest) if finest else None
        if finest and inside is not None and inside.array is not None:
            return prefix + finest, inside
    arrays = store.arrays(dataset)
    if len(arrays) == 1:
        return next(iter(arrays.items()))
    arrays = arrays or store.arrays('')
    wanted = f'the {store.what} array {dataset!r}' if dataset else f'one {store.what} array'
    if arrays:
        there = [f'{k or "the folder itself"} {found.describe()}' for k, found in arrays.items()]
        raise InputError(
            f'Expected {wanted} in {store.path}, found {listed(there, _LISTED)}; name one of them.'
        )
    raise store.nothing_found(wanted)


def _layout(store: Store, where: str, node: Node, array: Any, name: str) -> tuple[Axes, Geometry]:
    """Axes and geometry, from the array's metadata or those of the groups around it."""
    shape, what = array.shape, store.what
    labels = [label for label in array.domain.labels if label]
    if node.format == 'precomputed':
        axes = find_axes(shape, 'xyz', labels, what, name)
        return axes, precomputed_geometry(node.attributes, axes)
    groups = _groups_around(store, where, node.format)
    if node.format == 'n5':
        axes = find_axes(shape, 'xyz', labels, what, name)
        return axes, n5_geometry(node.attributes, (g.attributes for _, g in groups), axes)
    for level, group in groups:
        if names := ome_axis_names(group.attributes, level):
            axes = find_axes(shape, 'zyx', names, what, name)
            geometry = ome_geometry(group.attributes, level, axes)
            plain = geometry.resolution_nm is None
            return axes, plain_geometry(node.attributes, axes) if plain else geometry
    axes = find_axes(shape, 'zyx', labels or array_axis_names(node.attributes), what, name)
    return axes, plain_geometry(node.attributes, axes)


def _groups_around(store: Store, where: str, format_: str) -> list[tuple[str, Node]]:
    """The groups that hold an array, the nearest first, with its path within each."""
    if not where and store.is_folder:  # the path of the array itself was given
        folder, where = os.path.split(os.path.abspath(store.path))
        store = Store(folder, store.what)
    parts = where.split('/') if where else []
    groups = []
    for depth in reversed(range(len(parts))):
        group = store.node('/'.join(parts[:depth]))
        if group is not None and group.format == format_:
            groups.append(('/'.join(parts[depth:]), group))
    return groups


def _lacking(node: Node, reason: str, what: str, name: str) -> InputError | None:
    """The message for a codec or filter that tensorstore lacks; None if it raised over another."""
    found = re.search('member "(compressor|compression|codecs|filters|encoding)"', reason)
    if not found:
        return None
    array: Any = node.array
    member = (array['scales'][0] if node.format == 'precomputed' else array)[found[1]]
    codecs = [
        str(next((codec[key] for key in ('id', 'type', 'name') if key in codec), codec))
        for codec in (member if isinstance(member, list) else [member])
    ]
    return InputError(
        f'The {what} {name} is stored with {", ".join(codecs)}, in a way that cannot be read here '
        f'({reason.split(" [")[0].rsplit(": ", 1)[-1]}); with the program that wrote it, save it '
        'again with gzip, zstd or blosc and without filters; precomputed as raw or '
        'compressed_segmentation.'
    )


def _count_chunks(folder: str, node: Node, array: Any, what: str, name: str) -> None:
    """Says how many chunks of a folder are not there."""
    sides = zip(array.shape, array.chunk_layout.write_chunk.shape, strict=True)
    grid = [-(-size // chunk) for size, chunk in sides]
    if node.format == 'precomputed':
        scale = node.attributes['scales'][0]
        if 'sharding' in scale:
            return
        folder = os.path.join(folder, scale['key'])
    check_chunks(chunk_files(folder, grid), grid, array.fill_value or 0, what, name)
