"""TIFF stacks: one file, one page a section."""

import contextlib
import json
import logging
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from taclnet_jax.errors import InputError
from taclnet_jax.files import replacing
from taclnet_jax.volumes.sections import (
    Content,
    Geometry,
    ReadCrop,
    StoredArray,
    Triple,
    check_stack,
    read_whole,
)
from taclnet_jax.volumes.units import triple_nm

# Classic TIFF holds 4 GiB; what it writes beside the pixels is far below this reserve.
_BIGTIFF_BYTES = 2**32 - 2**26
_COLOURS = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.PALETTE, tifffile.PHOTOMETRIC.YCBCR)


def read_stack(path: str | os.PathLike[str], what: str = 'image') -> np.ndarray:
    """Reads a TIFF file as a stack of grey sections.

    Args:
        path: a single- or multi-page TIFF or BigTIFF file of any numeric type and byte order.
        what: what the file holds, for the error messages ('image', 'labels', ...).

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
        path: the file.
        what: what it holds, for the messages.
        try_decoding: finds out now, from the first strip, whether this machine can decompress it.

    Raises:
        InputError: the file is no TIFF, damaged, in colour or not a 3-d stack.
    """
    with _problems_of(path, what), contextlib.ExitStack() as opened:
        with _tifffile_complaints() as complaints:
            file = opened.enter_context(tifffile.TiffFile(path))
            series = _only_series(file, path, what)
            shape = _stack_shape(series, path, what)
            check_stack(shape, series.dtype, what, str(path))
            ends = _check_pages(file, series, shape, path, what)
        if complaints:
            raise _damaged(path, what, complaints[0].getMessage())
        if ends > os.path.getsize(path):
            raise _damaged(path, what, f'{ends} bytes needed, {os.path.getsize(path)} there')
        resolution_nm = _resolution_nm(file)
        read = _mapped_reader(file, series, shape, path)
        if read is None:
            if try_decoding:
                next(series.keyframe.segments(maxworkers=1))
            read = _decoding_reader(file, series, shape, path, what)
            opened.pop_all()  # the reader closes the file
    return StoredArray(str(path), '', shape, series.dtype, read, Geometry(resolution_nm))


def write_tiff(path: Path, content: Content) -> None:
    """Writes a zlib-compressed TIFF, section by section.

    ImageJ opens uint8, uint16 and float32 as a calibrated z stack; other types and files past
    4 GiB are plain TIFF and BigTIFF, with the voxel size in their description.

    Args:
        path: of the file.
        content: any numeric type.
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


def _only_series(file: tifffile.TiffFile, path: Path, what: str) -> tifffile.TiffPageSeries:
    if len(file.series) != 1:
        shapes = ', '.join(str(s.shape) for s in file.series[:10])
        raise InputError(
            f'Expected one {what} stack in {path}, found {len(file.series)} images of shapes '
            f'{shapes}; save sections of one size as one stack.'
        )
    return file.series[0]


def _stack_shape(series: tifffile.TiffPageSeries, path: Path, what: str) -> tuple[int, int, int]:
    """(sections, height, width) of what is grey and has no further axis."""
    axes, shape = series.axes, tuple(series.shape)
    if series.keyframe.photometric in _COLOURS or ('S' in axes and shape[axes.index('S')] > 1):
        raise InputError(
            f'Expected grey sections [z, y, x] in {path} ({what}), found a colour image of shape '
            f'{shape}; convert it to one grey channel.'
        )
    kept = [size for size, axis in zip(shape, axes, strict=True) if axis in 'YX' or size > 1]
    if len(kept) not in (2, 3):
        raise InputError(
            f'Expected a stack [z, y, x] in {path} ({what}), found {len(shape)} axes ({axes}) of '
            f'shape {shape}; save one channel and one time point.'
        )
    depth, height, width = kept if len(kept) == 3 else (1, *kept)
    return depth, height, width


def _check_pages(
    file: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    shape: tuple[int, int, int],
    path: Path,
    what: str,
) -> int:
    """Returns where the pixels end in the file, once every section is known to have its page."""
    if series.dataoffset is not None:
        return series.dataoffset + series.nbytes
    pages: list[Any] = list(series.pages)
    if any(page is None for page in pages):
        raise _damaged(path, what, 'pages are missing')
    if len(pages) != shape[0]:
        raise InputError(
            f'Expected one page a section in {path} ({what}), found {len(pages)} pages for shape '
            f'{shape}; save it as a multi-page TIFF.'
        )
    ends = [
        offset + count
        for page in pages
        if page.parent is file
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
    ]
    return max(ends, default=0)


def _mapped_reader(
    file: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    shape: tuple[int, int, int],
    path: Path,
) -> ReadCrop | None:
    """Reads from a memory map; None where the pixels are not in the file as they are."""
    depth, height, width = shape
    dtype = series.dtype.newbyteorder(file.byteorder)
    section_bytes = height * width * dtype.itemsize
    pages: list[Any] = [] if series.dataoffset is not None else list(series.pages)
    if series.dataoffset is not None:
        starts = [series.dataoffset + z * section_bytes for z in range(depth)]
    elif all(page.is_final and page.parent is file for page in pages):
        starts = [page.dataoffsets[0] for page in pages]
    else:
        return None
    content = np.memmap(path, np.uint8, 'r')

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        section = content[starts[z] : starts[z] + section_bytes].view(dtype)
        return section.reshape(height, width)[rows, columns]

    return read


def _decoding_reader(
    file: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    shape: tuple[int, int, int],
    path: Path,
    what: str,
) -> ReadCrop:
    """Decodes the section that is asked for; keeps the file open for as long as it lives."""
    pages: Sequence[Any] = series.pages
    lock = threading.RLock()  # of the file's position; pages are decoded side by side

    def decode(z: int, rows: slice, columns: slice) -> np.ndarray:
        with _problems_of(path, what):
            section = pages[z].asarray(lock=lock, maxworkers=1)
        return section.reshape(shape[1:])[rows, columns]

    weakref.finalize(decode, file.close)
    return decode


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


def _damaged(path: Path, what: str, reason: str) -> InputError:
    return InputError(
        f'The {what} stack {path} is damaged or incomplete ({reason}); copy or export it again.'
    )


@contextlib.contextmanager
def _problems_of(path: Path, what: str) -> Iterator[None]:
    """Turns what tifffile raises into messages."""
    try:
        yield
    except tifffile.TiffFileError as error:
        raise InputError(
            f'Expected a TIFF file with the {what} stack at {path}, but it cannot be read as one '
            f'({error}); check the file or copy it again.'
        ) from error
    except (InputError, MemoryError):
        raise
    except OSError as error:
        if error.strerror is None:  # no system error: tifffile ran past the end of the file
            raise _damaged(path, what, str(error)) from error
        raise InputError(f'Cannot read the {what} stack {path}: {error.strerror}.') from error
    except Exception as error:  # damaged headers make tifffile fail in many ways
        if 'imagecodecs' in str(error):
            raise InputError(
                f'The {what} stack {path} is compressed in a way that needs the package '
                'imagecodecs; install it, or save the stack uncompressed or with zlib (deflate).'
            ) from error
        raise _damaged(path, what, str(error)) from error


@contextlib.contextmanager
def _tifffile_complaints() -> Iterator[list[logging.LogRecord]]:
    """Collects what tifffile logs as errors: it reads cut-off files as far as they go."""
    logger, handler = logging.getLogger('tifffile'), BufferingHandler(2**20)
    handler.setLevel(logging.ERROR)
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield handler.buffer
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
