"""Image stacks on disk: TIFF in, TIFF out, `[z, y, x]`."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from taclnet_jax.errors import InputError

# Classic TIFF holds 4 GiB; what it writes beside the pixels is far below this reserve.
_BIGTIFF_BYTES = 2**32 - 2**26


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
    damage: list[str] = []
    try:
        with _tifffile_complaints(damage), tifffile.TiffFile(path) as file:
            series = file.series
            if len(series) != 1:
                shapes = ', '.join(str(s.shape) for s in series)
                raise InputError(
                    f'Expected one {what} stack in {path}, found {len(series)} images of shapes '
                    f'{shapes}; save sections of one size as one stack.'
                )
            axes, shape = series[0].axes, series[0].shape
            colour = file.pages.first.photometric in (
                tifffile.PHOTOMETRIC.RGB,
                tifffile.PHOTOMETRIC.PALETTE,
                tifffile.PHOTOMETRIC.YCBCR,
            )
            if colour or 'S' in axes:
                raise InputError(
                    f'Expected grey sections [z, y, x] in {path} ({what}), found a colour image of '
                    f'shape {shape}; convert it to one grey channel.'
                )
            if len(shape) not in (2, 3):
                raise InputError(
                    f'Expected a stack [z, y, x] in {path} ({what}), found {len(shape)} axes '
                    f'({axes}) of shape {shape}; save one channel and one time point.'
                )
            stack = series[0].asarray()
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
    if damage:
        raise _damaged(path, what, damage[0])
    stack = stack if stack.ndim == 3 else stack[np.newaxis]
    if stack.size == 0:
        raise InputError(f'The {what} stack {path} is empty: shape {stack.shape}.')
    return stack.astype(stack.dtype.newbyteorder('='), copy=False)


def write_stack(
    path: str | os.PathLike[str],
    array: np.ndarray,
    resolution_nm: tuple[float, float, float] | None = None,
) -> None:
    """Writes a z stack as zlib-compressed TIFF, whole or not at all.

    ImageJ opens uint8, uint16 and float32 as a calibrated z stack; other types and files past
    4 GiB are written as plain TIFF and BigTIFF.

    Args:
        path: where to write; an existing file is replaced only when the new one is complete.
        array: `[z, y, x]` of any numeric type; booleans become 0 and 255.
        resolution_nm: voxel size (z, y, x) in nm.

    Raises:
        InputError: the file cannot be written, for instance because the disk is full.
    """
    path = Path(path)
    array = np.asarray(array)
    if array.ndim != 3:
        raise ValueError(f'Expected a stack [z, y, x], got shape {array.shape}.')
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    bigtiff = array.nbytes >= _BIGTIFF_BYTES
    imagej = not bigtiff and array.dtype.name in ('uint8', 'uint16', 'float32')
    metadata: dict[str, object] = {'axes': 'ZYX'}
    calibration: dict[str, Any] = {}
    if resolution_nm is not None:
        z_nm, y_nm, x_nm = resolution_nm
        metadata |= {'spacing': z_nm, 'unit': 'nm'}
        # ImageJ takes the unit from its own metadata; TIFF itself knows centimetres at most.
        per_unit = 1 if imagej else 1e7
        calibration = {
            'resolution': (per_unit / x_nm, per_unit / y_nm),
            'resolutionunit': 'NONE' if imagej else 'CENTIMETER',
        }
    partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open('wb') as file:
            tifffile.imwrite(
                file,
                array,
                bigtiff=bigtiff,
                imagej=imagej,
                photometric='minisblack',
                compression='zlib',
                metadata=metadata,
                **calibration,
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise InputError(
            f'Cannot write {path}: {error.strerror or error}; nothing was changed there.'
        ) from error
    finally:
        with contextlib.suppress(OSError):  # where the folder is none, there is nothing to remove
            partial.unlink()


def as_uint8_image(stack: np.ndarray, name: str) -> np.ndarray:
    """Brings an image stack to 8 bits; what follows normalises each section anyway.

    uint8 stays as it is. uint16 is stretched: the stack's lowest value becomes 0, its highest 255
    (12-bit cameras would lose their contrast otherwise). Floats must lie in [0, 1] and are
    multiplied by 255.

    Args:
        stack: `[z, y, x]`.
        name: the file or stack, for the error messages.

    Raises:
        InputError: another type, sections with NaN or infinity, floats outside [0, 1].
    """
    if stack.dtype == np.uint8:
        return stack
    if stack.dtype == np.uint16:
        first, last = int(stack.min()), int(stack.max())
        table = np.rint(np.arange(last - first + 1) * (255 / max(last - first, 1)))
        return table.astype(np.uint8)[stack - np.uint16(first)]
    if not np.issubdtype(stack.dtype, np.floating):
        raise InputError(
            f'Expected the image {name} as uint8, uint16 or floats in [0, 1], found {stack.dtype}; '
            'convert it.'
        )
    bad = [z for z, section in enumerate(stack) if not np.isfinite(section).all()]
    if bad:
        raise InputError(
            f'The image {name} holds NaN or infinity in {_sections(bad)}; '
            'repair or remove these sections.'
        )
    low, high = float(stack.min()), float(stack.max())
    if low < 0 or high > 1:
        raise InputError(
            f'Expected the float image {name} in [0, 1], found values from {low:g} to {high:g}; '
            'rescale it or save it as uint8.'
        )
    image = np.empty(stack.shape, np.uint8)
    for z, section in enumerate(stack):  # by section: no float copy of the whole stack
        image[z] = np.rint(section * 255)
    return image


def _sections(numbers: list[int]) -> str:
    shown = ', '.join(str(z) for z in numbers[:10])
    more = f' and {len(numbers) - 10} more' if len(numbers) > 10 else ''
    return f'section{"s" if len(numbers) > 1 else ""} {shown}{more} (counted from 0)'


def _damaged(path: Path, what: str, reason: str) -> InputError:
    return InputError(
        f'The {what} stack {path} is damaged or incomplete ({reason}); copy or export it again.'
    )


@contextlib.contextmanager
def _tifffile_complaints(found: list[str]) -> Iterator[None]:
    """Collects what tifffile logs as errors: it reads cut-off files as far as they go."""

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    logger = logging.getLogger('tifffile')
    handler = Collect(logging.ERROR)
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
