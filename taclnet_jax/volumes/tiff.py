"""TIFF stacks: one file, one page a section."""

import contextlib
import json
import logging
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from taclnet_jax.errors import InputError, doubt
from taclnet_jax.files import replacing
from taclnet_jax.volumes.axes import Axes, find_axes
from taclnet_jax.volumes.claims import check_claim
from taclnet_jax.volumes.sections import (
    Content,
    Geometry,
    ReadCrop,
    StoredArray,
    Triple,
    check_stack,
    problems_of,
    read_whole,
)
from taclnet_jax.volumes.units import triple_nm

# Classic TIFF holds 4 GiB; what it writes beside the pixels is far below this reserve.
_BIGTIFF_BYTES = 2**32 - 2**26
_FAULT = 'incomplete and cannot be read as one'
_COLOURS = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
# By 1500 times at most.
_DEFLATES = [
    tifffile.COMPRESSION[name] for name in ('NONE', 'LZW', 'ADOBE_DEFLATE', 'DEFLATE', 'PACKBITS')
]


def read_stack(path: str | os.PathLike[str], what: str = 'image') -> np.ndarray:
    """Reads a TIFF file as a stack of grey sections.

    Args:
        path: a single- or multi-page TIFF or BigTIFF file of any numeric type and byte order.
        what: what it holds, for the messages ('image', 'labels', ...).

    Returns:
        `[z, y, x]` in the file's type and native byte order; a 2-d file is one section.

    Raises:
        InputError: the file is missing, no TIFF, damaged, in colour or not a 3-d stack.
    """
    path = Path(path)
    if not path.is_file():
        found = 'that is a folder' if path.is_dir() else 'there is no such file'
        raise InputError(f'Expected the {what} stack at {path}, but {found}; check the path.')
    return read_whole(open_tiff(path, what))


def open_tiff(path: Path, what: str, *, try_decoding: bool = True) -> StoredArray:
    """Opens a TIFF stack. Uncompressed pages are memory-mapped, others decoded when asked for.

    Args:
        path, what: as of `read_stack`. An 'image' has grey values: 0 is black, whatever number the
            file has for it. All else has numbers, and keeps them, indices of a palette too.
        try_decoding: finds out now, from the first strip, whether this machine can decompress it.

    Raises:
        InputError: the file is no TIFF, damaged, in colour or not a 3-d stack.
    """
    name = f'{what} stack {path}'
    with problems_of(name, _FAULT), contextlib.ExitStack() as opened:
        with _tifffile_complaints() as complaints:
            file = opened.enter_context(tifffile.TiffFile(path))
            if len(file.series) != 1:
                shapes = ', '.join(str(s.shape) for s in file.series[:10])
                raise InputError(
                    f'Expected one {name}, found {len(file.series)} images of shapes {shapes}; '
                    'save sections of one size as one stack.'
                )
            series = file.series[0]
            axes = _axes(series, what, name)
            check_stack(axes.shape, series.dtype, what, str(path))
            starts, end = _extent(file, series, axes.stored, name)
        if complaints:
            raise ValueError(complaints[0].getMessage())
        if end > os.path.getsize(path):
            raise ValueError(f'{end} bytes needed, {os.path.getsize(path)} there')
        geometry = Geometry(_resolution_nm(file))
        if starts is not None:
            dtype = series.dtype.newbyteorder(file.byteorder)
            read = _mapped_reader(path, starts, axes.stored, dtype)
        else:
            if try_decoding:
                next(series.keyframe.segments(maxworkers=1))
            read = _decoding_reader(series.pages, axes.stored, name)
            weakref.finalize(read, file.close)
            opened.pop_all()  # the reader closes the file
        read = _turned(read, axes)
        if what == 'image' and series.keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            read = _inverted(read, series, name)
    return StoredArray(str(path), '', axes.shape, series.dtype, read, geometry)


def write_tiff(path: Path, content: Content) -> None:
    """Writes a zlib-compressed TIFF, section by section.

    ImageJ opens uint8, uint16 and float32 as a calibrated z stack; other types and files past
    4 GiB are plain TIFF and BigTIFF, with the voxel size in their description.
    """
    array, resolution_nm = content.array, content.geometry.resolution_nm
    depth, height, width = array.shape
    bigtiff = depth * height * width * array.dtype.itemsize >= _BIGTIFF_BYTES
    sections: Iterator[np.ndarray] = (np.asarray(array[z]) for z in range(depth))
    if not bigtiff and array.dtype.name in ('uint8', 'uint16', 'float32'):
        sections = (section[..., np.newaxis] for section in sections)
        metadata: dict[str, Any] = {'axes': 'TZCYXS'}
        options: dict[str, Any] = {'shape': (1, depth, 1, height, width, 1), 'imagej': True}
        if resolution_nm is not None:
            z_nm, y_nm, x_nm = resolution_nm
            metadata |= {'spacing': z_nm, 'unit': 'nm'}
            options |= {'resolution': (1 / x_nm, 1 / y_nm), 'resolutionunit': 'NONE'}
        options['metadata'] = metadata
    else:
        # tifffile's own description of a shaped array, which it would refuse to write for sections
        # one pixel wide that come one by one.
        description: dict[str, Any] = {'shape': array.shape, 'axes': 'ZYX'}
        if resolution_nm is not None:
            description['resolution_nm'] = resolution_nm
        options = {'shape': array.shape, 'bigtiff': bigtiff, 'metadata': None}
        options['description'] = json.dumps(description)
    options |= {'dtype': array.dtype, 'photometric': 'minisblack', 'compression': 'zlib'}
    with replacing(path) as partial, partial.open('wb') as file:
        tifffile.imwrite(file, sections, **options)


def _axes(series: tifffile.TiffPageSeries, what: str, name: str) -> Axes:
    """Which of pages, rows and columns are z, y and x, of what is grey and has no further axis."""
    axes, shape = series.axes, tuple(series.shape)
    photometric = series.keyframe.photometric
    if (
        photometric in _COLOURS
        or (what == 'image' and photometric == tifffile.PHOTOMETRIC.PALETTE)
        or ('S' in axes and shape[axes.index('S')] > 1)
    ):
        raise InputError(
            f'Expected grey sections [z, y, x] in the {name}, found a colour image of shape '
            f'{shape}; convert it to one grey channel. If its channels are sections, write it with '
            "photometric='minisblack'."
        )
    kept = [(size, a) for size, a in zip(shape, axes, strict=True) if a in 'YX' or size > 1]
    if len(kept) not in (2, 3):
        raise InputError(
            f'Expected the {name} as [z, y, x], found {len(shape)} axes ({axes}) of shape {shape}; '
            'save one channel and one time point.'
        )
    sizes, names = zip(*(kept if len(kept) == 3 else [(1, 'Z'), *kept]), strict=True)
    # What is neither y nor x is z, though it may be called time.
    called = [name if name in 'YX' else 'z' for name in names]
    return find_axes(sizes, 'zyx', called, what, name)


def _extent(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries, shape: tuple[int, ...], name: str
) -> tuple[list[int] | None, int]:
    """Where each section begins in the file, None if it is not there as it is; where they end."""
    if series.dataoffset is not None:
        end = series.dataoffset + series.nbytes
        return list(range(series.dataoffset, end, series.nbytes // shape[0])), end
    pages: list[Any] = list(series.pages)
    if any(page is None for page in pages):
        raise ValueError('pages are missing')
    if len(pages) != shape[0]:
        raise InputError(
            f'Expected one page a section in the {name}, found {len(pages)} pages for shape '
            f'{shape}; save it as a multi-page TIFF.'
        )
    head = series.keyframe
    inflation = 1500 if head.compression in _DEFLATES else 2**16
    lost, ends = 0, []
    for page in pages:
        lost += page.databytecounts.count(0)
        if page.parent is file:
            check_claim(head.nbytes, sum(page.databytecounts), inflation)
            strips = zip(page.dataoffsets, page.databytecounts, strict=True)
            ends += [offset + count for offset, count in strips]
    if lost:
        doubt(
            f'{lost} strips or tiles of the {name} are not stored, and are read as 0. If they are '
            'not blank, copy or export it again.'
        )
    plain = all(page.is_final and page.parent is file for page in pages)
    return [page.dataoffsets[0] for page in pages] if plain else None, max(ends, default=0)


def _mapped_reader(
    path: Path, starts: list[int], shape: tuple[int, ...], dtype: np.dtype
) -> ReadCrop:
    content = np.memmap(path, np.uint8, 'r')
    section_bytes = shape[1] * shape[2] * dtype.itemsize

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        section = content[starts[z] : starts[z] + section_bytes].view(dtype)
        return section.reshape(shape[1:])[rows, columns]

    return read


def _decoding_reader(pages: Sequence[Any], shape: tuple[int, ...], name: str) -> ReadCrop:
    lock = threading.RLock()  # of the file's position; pages are decoded side by side

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        with problems_of(name, _FAULT):
            section = pages[z].asarray(lock=lock, maxworkers=1)
        return section.reshape(shape[1:])[rows, columns]

    return read


def _turned(read: ReadCrop, axes: Axes) -> ReadCrop:
    """Reads sections with what reads pages; where they lie across these, out of all of them."""
    order = (axes.z or 0, axes.y, axes.x)
    if order == (0, 1, 2):
        return read

    def read_turned(z: int, rows: slice, columns: slice) -> np.ndarray:
        wanted = dict(zip(order, (slice(z, z + 1), rows, columns), strict=True))
        pages = range(wanted[0].start, wanted[0].stop)
        block = np.stack([read(page, wanted[1], wanted[2]) for page in pages])
        return block.transpose(order)[0]

    return read_turned


def _inverted(read: ReadCrop, series: tifffile.TiffPageSeries, name: str) -> ReadCrop:
    """Grey values of a file in which 0 is white."""
    if series.dtype.kind not in 'bu':
        raise InputError(
            f'Expected 0 as black in the {name}, whose grey values, {series.dtype}, cannot be '
            'turned round; invert it, or convert it to 8 or 16 bits.'
        )
    white = series.dtype.type(2**series.keyframe.bitspersample - 1)
    return lambda z, *crop: white ^ read(z, *crop)


def _resolution_nm(file: tifffile.TiffFile) -> Triple | None:
    """Voxel size, from ImageJ, OME or this package. TIFF's own tags speak of printing."""
    if file.is_ome and file.ome_metadata:
        return _ome_resolution_nm(file.ome_metadata)
    if file.imagej_metadata:
        tags = file.pages.first.tags
        unit = file.imagej_metadata.get('unit')
        per_unit = [tags.valueof(name, default=(0, 1)) for name in ('YResolution', 'XResolution')]
        if any(count == 0 for count, _ in per_unit):
            return None
        y, x = (units / count for count, units in per_unit)
        return triple_nm((file.imagej_metadata.get('spacing'), y, x), unit)
    shaped = file.shaped_metadata
    return triple_nm(shaped[0].get('resolution_nm')) if shaped else None


def _ome_resolution_nm(xml: str) -> Triple | None:
    try:
        pixels = ElementTree.fromstring(xml).find('.//{*}Pixels')
    except ElementTree.ParseError:
        return None
    if pixels is None:
        return None
    sizes = [pixels.get(f'PhysicalSize{axis}') for axis in 'ZYX']
    units = [pixels.get(f'PhysicalSize{axis}Unit', 'µm') for axis in 'ZYX']
    return triple_nm(sizes, units)


@contextlib.contextmanager
def _tifffile_complaints() -> Iterator[list[logging.LogRecord]]:
    """Collects what tifffile logs as errors: it reads cut-off files as far as they go."""
    _complaints.records = []
    try:
        yield _complaints.records
    finally:
        _complaints.records = None


def _collect(record: logging.LogRecord) -> bool:
    """Keeps what is logged from whoever else hears it, where this thread collects it."""
    records = getattr(_complaints, 'records', None)
    if records is not None and record.levelno >= logging.ERROR:
        records.append(record)
    return records is None


_complaints = threading.local()
logging.getLogger('tifffile').addFilter(_collect)
