"""Images in 8 bits; what follows normalises each section anyway."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from taclnet_jax.errors import InputError
from taclnet_jax.volumes.padding import flat
from taclnet_jax.volumes.sections import LazySections, Sections, listed, mapped, read_whole

# Of the voxels that are not 0: one hot pixel must not darken all others.
_CLIPPED = 0.001
# Of larger volumes some sections are looked at, of these some blocks along each side.
_SAMPLE_VOXELS = 2**24
_SAMPLE_SECTIONS, _SAMPLE_BLOCKS, _BLOCK_PX = 16, 4, 256
_FEWEST = 2**16  # voxels of tissue in these blocks; with fewer, all of the volume is looked at


def as_uint8_sections(stored: Sections, name: str) -> Sections:
    """An image in 8 bits, converted as it is read.

    uint8 stays as it is. uint16 is stretched, by one rule for the whole volume: the value below
    which 0.1 % of the voxels lie becomes 0, the one above which 0.1 % lie 255. Voxels of value 0
    and other padding (`padding.flat`) do not count. Of more than 2^24 voxels, 256 blocks of 256 x
    256 on a regular grid are looked at, and all where these are mostly padding. Floats must lie in
    [0, 1] and are multiplied by 255.

    Args:
        stored: the image.
        name: its file, for the error messages.

    Returns:
        uint8 sections of the same shape. Reading floats raises InputError where they are NaN,
        infinite or outside [0, 1].

    Raises:
        InputError: another type than uint8, uint16 or float.
    """
    dtype = np.dtype(stored.dtype)
    if dtype == np.uint8:
        return stored
    if dtype.kind == 'u' and dtype.itemsize == 2:
        table = _stretch(stored)
        return mapped(stored, np.uint8, lambda crop: table[crop])
    if dtype.kind != 'f':
        raise InputError(
            f'Expected the image {name} as uint8, uint16 or floats in [0, 1], found {dtype}; '
            'stretch its grey values, from the lowest to the highest, to one of these.'
        )

    def read_float(z: int, rows: slice, columns: slice) -> np.ndarray:
        crop = stored[z, rows, columns]
        if not np.isfinite(crop).all():
            raise _not_finite(name, [z])
        low, high = crop.min(), crop.max()
        if low < 0 or high > 1:
            raise _out_of_range(name, low, high, f' in section {z} (counted from 0)')
        return np.rint(crop * 255).astype(np.uint8)

    return LazySections(stored.shape, np.uint8, read_float)


def as_uint8_image(stack: np.ndarray, name: str) -> np.ndarray:
    """An image in memory, `[z, y, x]`, in 8 bits, by the rule of `as_uint8_sections`.

    Raises:
        InputError: another type, sections with NaN or infinity, floats outside [0, 1].
    """
    sections = as_uint8_sections(stack, name)
    if sections is stack:
        return stack
    if stack.dtype.kind == 'f':
        bad = [z for z, section in enumerate(stack) if not np.isfinite(section).all()]
        if bad:
            raise _not_finite(name, bad)
        low, high = stack.min(), stack.max()
        if low < 0 or high > 1:
            raise _out_of_range(name, low, high)
    return read_whole(sections)


def _stretch(image: Sections) -> np.ndarray:
    """The 8-bit value of each 16-bit one."""
    large = math.prod(image.shape) > _SAMPLE_VOXELS
    counts = _counted(_sample(image) if large else ())
    if counts.sum() < _FEWEST:  # in a large one tissue may lie between what was looked at
        counts = _counted(image[z] for z in range(image.shape[0]))
    below = np.cumsum(counts)
    if below[-1] == 0:
        return np.zeros(2**16, np.uint8)
    clipped = _CLIPPED * below[-1]
    low = int(np.argmax(below > clipped))
    high = int(np.argmax(below >= below[-1] - clipped))
    values = (np.arange(2**16) - low) * (255 / max(high - low, 1))
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def _counted(blocks: Iterable[np.ndarray]) -> NDArray[np.int64]:
    """How often there is each value outside of padding; of 0, never."""
    counts = np.zeros(2**16, np.int64)
    for block in blocks:
        counts += np.bincount(block[~flat(block)], minlength=2**16)
    counts[0] = 0
    return counts


def _sample(image: Sections) -> Iterator[np.ndarray]:
    depth, height, width = image.shape
    for z in _starts(depth, 1, _SAMPLE_SECTIONS):
        for y in _starts(height, _BLOCK_PX, _SAMPLE_BLOCKS):
            for x in _starts(width, _BLOCK_PX, _SAMPLE_BLOCKS):
                yield image[z, slice(y, y + _BLOCK_PX), slice(x, x + _BLOCK_PX)]


def _starts(length: int, size: int, count: int) -> list[int]:
    """Where blocks begin that are spread evenly over an axis, from its first to its last."""
    last = max(length - size, 0)
    return sorted({int(start) for start in np.linspace(0, last, count)})


def _not_finite(name: str, numbers: list[int]) -> InputError:
    sections, these = ('sections', 'these') if len(numbers) > 1 else ('section', 'this')
    return InputError(
        f'The image {name} holds NaN or infinity in {sections} {listed(numbers, 10)} (counted from '
        f'0); repair or remove {these} {sections}.'
    )


def _out_of_range(name: str, low: float, high: float, where: str = '') -> InputError:
    return InputError(
        f'Expected the float image {name} in [0, 1], found values from {low:g} to {high:g}{where}; '
        'rescale it or save it as uint8.'
    )
