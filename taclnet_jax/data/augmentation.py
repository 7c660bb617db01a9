"""What training changes about a window, drawn from one generator per sample.

Here are the draws of symmetries and places and all that changes grey values;
`taclnet_jax.data.deformation` moves pixels.
"""

import math

import numpy as np
from scipy import ndimage

from taclnet_jax.config.data import AugmentSettings
from taclnet_jax.data.normalisation import normalised_tables

FAULTS = ('dark', 'blur', 'noise', 'missing', 'misaligned', 'elastic')
"""The settings of `AugmentSettings` that are probabilities."""


def random_symmetry(rng: np.random.Generator, crop: tuple[int, int]) -> int:
    """One of the eight symmetries (`taclnet_jax.symmetry`); the four that fit if not square."""
    return int(rng.integers(8 if crop[0] == crop[1] else 4))


def random_corner(
    rng: np.random.Generator,
    corner: tuple[int, int],
    crop: tuple[int, int],
    section_shape: tuple[int, int],
) -> tuple[int, int]:
    """Moves a crop by up to half its size, inside the section."""
    y, x = (
        int(rng.integers(max(0, c - size // 2), min(full - size, c + size // 2) + 1))
        for c, size, full in zip(corner, crop, section_shape, strict=True)
    )
    return y, x


def grey_tables(
    rng: np.random.Generator, histograms: np.ndarray, augmentation: AugmentSettings
) -> np.ndarray:
    """For each section a table from grey value to normalised, augmented intensity.

    Each section has its own draw. A section is normalised after its gamma, so that only `gain`,
    `offset` and `dark` move its mean and variance from 0 and 1.

    Histograms are `[slices, 256]` counts of the grey values in each whole section, and the tables
    `[slices, 256]` float32.
    """
    a, slices = augmentation, len(histograms)
    draw = rng.uniform(-1, 1, (3, slices, 1))
    dark = _strengths(rng, slices, a.dark, a.dark_strength)[:, None]
    tables = normalised_tables(histograms, (1 + a.gamma) ** draw[0])
    tables = tables * (1 + a.gain * draw[1]) + a.offset * draw[2]
    return (tables * (1 - dark) - dark).astype(np.float32)


def degrade(rng: np.random.Generator, image: np.ndarray, augmentation: AugmentSettings) -> None:
    """Blurs sections, adds noise to them and loses one, in place; the labels know nothing of it.

    They are `[slices, height, width]` float32, normalised.
    """
    a, slices = augmentation, len(image)
    blur = _strengths(rng, slices, a.blur, a.blur_px)
    noise = _strengths(rng, slices, a.noise, a.noise_strength)
    lost = _missing(rng, image.shape, a.missing)
    for section, sigma in zip(image, blur, strict=True):
        if sigma:
            ndimage.gaussian_filter(section, sigma, output=section, mode='mirror')
    # Drawn last: how much of it there is changes nothing that others draw.
    for section, sigma in zip(image, noise, strict=True):
        if sigma:
            section += np.float32(sigma) * rng.standard_normal(section.shape, np.float32)
    if lost is not None:
        place, pixels, grey = lost
        image[place][pixels] = grey


def _strengths(
    rng: np.random.Generator, slices: int, probability: float, strength: float
) -> np.ndarray:
    """`[slices]`: 0, or with the probability one of half the strength to all of it."""
    chance, share = rng.random((2, slices))
    return np.where(chance < probability, strength * (1 + share) / 2, 0)


def _missing(
    rng: np.random.Generator, shape: tuple[int, ...], probability: float
) -> tuple[int, np.ndarray, float] | None:
    """(section, its missing pixels, their value), or None if nothing is missing.

    The only section of a window is never missing as a whole: nothing would be left to learn from.
    """
    slices, height, width = shape
    chance, part, place, y, x, direction, grey = rng.random(7)
    if chance >= probability:
        return None
    section = int(place * slices)
    if part < 0.5 and slices > 1:
        return section, np.ones((height, width), bool), 0.0
    # One side of a line through a random pixel.
    down = (np.arange(height) - y * (height - 1)) * math.cos(2 * math.pi * direction)
    right = (np.arange(width) - x * (width - 1)) * math.sin(2 * math.pi * direction)
    return section, down[:, None] + right >= 0, 4 * grey - 2
