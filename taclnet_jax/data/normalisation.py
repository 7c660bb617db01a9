"""Sections of mean 0 and variance 1."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from taclnet_jax.volumes import LazySections, Sections, section_shape
from taclnet_jax.volumes.padding import flat
from taclnet_jax.volumes.sections import alike

# Sections of more pixels are normalised by a sample of them: whole ones would not fit in memory.
_WHOLE_PX = 2**22

_BLOCK_PX = 256


def normalised(
    image: Sections, histogram: Callable[[int], np.ndarray] | None = None
) -> LazySections:
    """The image with mean 0 and variance 1 in each section, float32; a constant one is zeros.

    Args:
        image: uint8.
        histogram: of a section, where they are known already (`section_histogram`).
    """
    counts = histogram or (lambda z: section_histogram(image, z))
    table = lru_cache(maxsize=64)(lambda z: normalised_tables(counts(z)).astype(np.float32))

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        return table(z)[image[z, rows, columns]]

    return alike(image, np.float32, read)


def section_histogram(image: Sections, z: int) -> np.ndarray:
    """Counts of a section's 256 grey values."""
    return histogram(section_sample(image, z))


def section_sample(image: Sections, z: int) -> list[np.ndarray]:
    """What a section is normalised by: all of it, or 8 x 8 squares spread over a very large one."""
    height, width = section_shape(image, z)
    if height * width <= _WHOLE_PX:
        return [image[z]]
    return [
        image[z, slice(y, y + _BLOCK_PX), slice(x, x + _BLOCK_PX)]
        for y in np.linspace(0, max(height - _BLOCK_PX, 0), 8, dtype=int).tolist()
        for x in np.linspace(0, max(width - _BLOCK_PX, 0), 8, dtype=int).tolist()
    ]


def histogram(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Counts of 256 grey values.

    Padding and gaps (`taclnet_jax.volumes.padding.flat`) do not count where there is anything else.
    """
    tissue = np.concatenate([block[~flat(block)] for block in blocks])
    if not tissue.size:
        tissue = np.concatenate([block.reshape(-1) for block in blocks])
    return np.bincount(tissue, minlength=256)


def normalised_tables(histograms: np.ndarray, gamma: np.ndarray | float = 1.0) -> np.ndarray:
    """Tables that give a section of this histogram mean 0 and variance 1; zeros if constant."""
    grey = (np.arange(256) / 255) ** gamma
    weights = histograms / histograms.sum(axis=-1, keepdims=True)
    centred = grey - (weights * grey).sum(axis=-1, keepdims=True)
    deviation = np.sqrt((weights * centred**2).sum(axis=-1, keepdims=True))
    constant = np.count_nonzero(histograms, axis=-1, keepdims=True) < 2
    return np.where(constant, 0, centred / np.where(constant, 1, deviation))
