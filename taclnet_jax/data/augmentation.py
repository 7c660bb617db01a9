"""What training changes about a window, drawn from one generator per sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GREY = np.arange(256) / 255
"""The grey values of an 8-bit section, in [0, 1]."""


@dataclass(frozen=True)
class Augmentation:
    """Which augmentations are on and how strong they are; the default is none at all.

    Attributes:
        symmetries: flips and rotations: the eight symmetries of the square.
        reverse_z: the window's sections in reverse order, every second time.
        gain: contrast is multiplied by 1 - gain to 1 + gain.
        offset: brightness moves by up to this many standard deviations of the section.
        gamma: grey values are raised to a power from 1 / (1 + gamma) to 1 + gamma.
    """

    symmetries: bool = False
    reverse_z: bool = False
    gain: float = 0.0
    offset: float = 0.0
    gamma: float = 0.0


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
    rng: np.random.Generator, histograms: np.ndarray, augmentation: Augmentation
) -> np.ndarray:
    """For each section a table from grey value to normalised, augmented intensity.

    Sections of a real stack differ in contrast from one to the next, so each has its own draw. The
    gamma is applied to the grey values; the mean and variance that normalise the section are those
    after it, so that only `gain` and `offset` move them from 0 and 1.

    Args:
        rng: the sample's generator.
        histograms: `[slices, 256]` counts of the grey values in each whole section.
        augmentation: the strengths.

    Returns:
        `[slices, 256]` float32.
    """
    a, slices = augmentation, len(histograms)
    draw = rng.uniform(-1, 1, (3, slices, 1))
    tables = normalised_tables(histograms, (1 + a.gamma) ** draw[0])
    return (tables * (1 + a.gain * draw[1]) + a.offset * draw[2]).astype(np.float32)


def normalised_tables(histograms: np.ndarray, gamma: np.ndarray | float = 1.0) -> np.ndarray:
    """Tables that give a section of this histogram mean 0 and variance 1; zeros if constant."""
    grey = GREY**gamma
    weights = histograms / histograms.sum(axis=-1, keepdims=True)
    centred = grey - (weights * grey).sum(axis=-1, keepdims=True)
    deviation = np.sqrt((weights * centred**2).sum(axis=-1, keepdims=True))
    constant = np.count_nonzero(histograms, axis=-1, keepdims=True) < 2
    return np.where(constant, 0, centred / np.where(constant, 1, deviation))
