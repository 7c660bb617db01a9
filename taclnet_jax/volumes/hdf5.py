"""HDF5 datasets `[z, y, x]`, with CREMI's attributes `resolution` and `offset`."""

import contextlib
import io
import posixpath
import shutil
import weakref
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from taclnet_jax.errors import InputError, doubt
from taclnet_jax.files import replacing
from taclnet_jax.volumes.axes import find_axes
from taclnet_jax.volumes.claims import check_chunk, check_chunks
from taclnet_jax.volumes.metadata import array_axis_names, plain_geometry
from taclnet_jax.volumes.sections import (
    Content,
    StoredArray,
    check_stack,
    listed,
    place,
    problems_of,
    slabs,
)

_CACHE_BYTES = 2**26
_CACHE_SLOTS = 10_007  # a prime, about a hundred times the chunks that fit, as HDF5 advises
_LISTED = 20
_FAULT = 'no HDF5'


def open_hdf5(path: Path, dataset: str, what: str) -> StoredArray:
    """Opens a dataset of an HDF5 file, such as volumes/raw; '' where it is the only one."""
    with problems_of(f'{what} {path}', _FAULT), contextlib.ExitStack() as opened:
        file = opened.enter_context(
            h5py.File(path, 'r', rdcc_nbytes=_CACHE_BYTES, rdcc_nslots=_CACHE_SLOTS)
        )
        stored = _find(file, dataset, path, what)
        dataset = stored.name.strip('/')
        name = place(str(path), dataset)
        attributes = {key: np.asarray(value).tolist() for key, value in stored.attrs.items()}
        names = array_axis_names(attributes) or [_axis_name(axis) for axis in stored.dims]
        axes = find_axes(stored.shape, 'zyx', names if all(names) else None, what, name)
        check_stack(axes.shape, stored.dtype, what, name)
        _check_filters(stored, what, name)
        check_chunk(stored.chunks or (), stored.dtype, what, name)
        _check_stored(stored, path, what, name)
        geometry = plain_geometry(attributes, axes)
        opened.pop_all()  # the reader closes the file

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        with problems_of(f'{what} {name}', _FAULT):
            return axes.turn(stored[axes.key(z, rows, columns)])

    weakref.finalize(read, file.close)
    return StoredArray(str(path), dataset, axes.shape, stored.dtype, read, geometry)


def write_hdf5(path: Path, content: Content) -> None:
    """Writes a gzip-compressed dataset; others in the same file are kept.

    Raises:
        InputError: another kind of file is there, or a group in place of the dataset.
    """
    array, dataset = content.array, content.dataset or 'main'
    with replacing(path) as partial:
        keeps_others = path.exists() and _has_others(path, dataset)
        if keeps_others:
            shutil.copyfile(path, partial)
        with (
            HonestFile(partial, 'r+b' if keeps_others else 'w+b') as target,
            h5py.File(target, 'r+' if keeps_others else 'w') as file,
        ):
            if dataset in file:
                del file[dataset]
            stored = file.create_dataset(
                dataset,
                array.shape,
                array.dtype,
                chunks=content.chunk,
                compression='gzip',
                shuffle=True,
            )
            for name, triple in zip(('resolution', 'offset'), content.geometry, strict=True):
                if triple is not None:
                    stored.attrs[name] = np.array(triple, np.float64)
            for depth, rows, slab in slabs(content):
                stored[depth, rows] = slab
                file.flush()
                target.raise_failure()


class HonestFile(io.FileIO):
    """A file for HDF5 to write to, which crashes the process at its end where a write fails.

    HDF5 hears of success only; `raise_failure` and the end of a `with` block tell the truth.
    """

    _failure: BaseException | None = None

    def write(self, data: Any) -> int:
        """Writes all of the data, or keeps the reason why not."""
        try:
            rest = memoryview(data).cast('B')
            while self._failure is None and len(rest):
                rest = rest[super().write(rest) :]
        except BaseException as error:  # signals raise here, too
            self._failure = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Sets the length, or keeps the reason why not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._failure = self._failure or error
            return self.tell() if size is None else size

    def raise_failure(self) -> None:
        """Raises what the first write that failed met."""
        if self._failure is not None:
            raise self._failure

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        """Closes the file and raises what HDF5 has not heard of."""
        super().__exit__(kind, error, traceback)
        if not isinstance(error, InputError):
            self.raise_failure()


def _has_others(path: Path, dataset: str) -> bool:
    """Whether a file holds other datasets, once it is known that this one may be replaced."""
    if not h5py.is_hdf5(path):
        raise InputError(
            f'Cannot write {path} as HDF5: there is a file of that name that is none; choose '
            'another name or remove it.'
        )
    with problems_of(f'file {path}', _FAULT), h5py.File(path, 'r') as file:
        if isinstance(file.get(dataset), h5py.Group):
            raise InputError(
                f'Cannot write {place(str(path), dataset)}: there is a group of that name; choose '
                'another dataset.'
            )
        for above in map(str, PurePosixPath(dataset).parents):
            if isinstance(file.get(above), h5py.Dataset):
                raise InputError(
                    f'Cannot write {place(str(path), dataset)}: {above} is a dataset, and holds no '
                    'others; choose another dataset.'
                )
        return any(other.name.strip('/') != dataset for other in _datasets(file))


def _datasets(group: h5py.Group) -> list[h5py.Dataset]:
    nodes: list[h5py.HLObject] = []
    group.visititems(lambda _, node: nodes.append(node))
    return [node for node in nodes if isinstance(node, h5py.Dataset)]


def _find(file: h5py.File, dataset: str, path: Path, what: str) -> h5py.Dataset:
    node = file.get(dataset) if dataset else file
    if isinstance(node, h5py.Dataset):
        return node
    group = node if isinstance(node, h5py.Group) else file
    datasets = _datasets(group)
    if node is not None and len(datasets) == 1:
        return datasets[0]
    wanted = f'the {what} dataset {dataset!r}' if dataset else f'one {what} dataset'
    if datasets:
        there = [f'{d.name.strip("/")} {d.shape} {d.dtype}' for d in datasets]
        raise InputError(
            f'Expected {wanted} in {path}, found {listed(there, _LISTED)}; name one of them.'
        )
    raise InputError(f'Expected {wanted} in {path}, found no dataset at all; check the file.')


def _check_filters(stored: h5py.Dataset, what: str, name: str) -> None:
    properties = stored.id.get_create_plist()
    for index in range(properties.get_nfilters()):
        number, _, _, label = properties.get_filter(index)
        if not h5py.h5z.filter_avail(number):
            raise InputError(
                f'The {what} {name} is compressed with {label.decode() or number}, which HDF5 '
                'lacks here; save it with gzip, or install hdf5plugin and set HDF5_PLUGIN_PATH '
                'to its plugins.'
            )


def _axis_name(axis: Any) -> str:
    """A dimension's label, or the name of its scale, as netCDF has it; '' without either."""
    return axis.label or (posixpath.basename(axis[0].name) if len(axis) else '')


def _check_stored(stored: h5py.Dataset, path: Path, what: str, name: str) -> None:
    """Says what is not there, and is read as the fill value."""
    if stored.is_virtual:
        files = {source.file_name for source in stored.virtual_sources()} - {'.'}
        lost = [file for file in files if not (path.parent / file).exists()]
        if lost:
            doubt(
                f'{len(lost)} of {len(files)} files that the {what} {name} is made of are not '
                f'there, {listed(sorted(lost), 3)}; what they hold is read as {stored.fillvalue}. '
                'Copy them to where it looks for them.'
            )
        return
    chunk = stored.chunks or stored.shape
    grid = [-(-n // c) for n, c in zip(stored.shape, chunk, strict=True)]
    there = stored.id.get_num_chunks() if stored.chunks else int(stored.id.get_storage_size() > 0)
    check_chunks(there, grid, stored.fillvalue, what, name)
