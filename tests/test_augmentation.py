"""The random draws: symmetries, places of crops, tables of grey values."""

from __future__ import annotations

import numpy as np
import pytest

from taclnet_jax.data.augmentation import (
    Augmentation,
    grey_tables,
    normalised_tables,
    random_corner,
    random_symmetry,
)
from taclnet_jax.data.windows import normalise


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def sections() -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.clip(
        rng.normal([[[90]], [[140]], [[200]]], [[[40]], [[20]], [[60]]], (3, 45, 67)), 0, 255
    ).astype(np.uint8)


def histograms(sections: np.ndarray) -> np.ndarray:
    return np.stack([np.histogram(s, np.arange(257))[0] for s in sections])


def look_up(tables: np.ndarray, sections: np.ndarray) -> np.ndarray:
    return np.stack([table[section] for table, section in zip(tables, sections, strict=True)])


@pytest.mark.parametrize(('crop', 'count'), [((9, 9), 8), ((9, 8), 4)])
def test_symmetries_are_drawn_equally_often(
    rng: np.random.Generator, crop: tuple[int, int], count: int
):
    drawn = np.bincount([random_symmetry(rng, crop) for _ in range(800)], minlength=8)
    assert (drawn[:count] > 0.7 * 800 / count).all() and not drawn[count:].any()


@pytest.mark.parametrize(
    ('corner', 'crop', 'section', 'rows', 'columns'),
    [
        ((0, 0), (4, 5), (10, 12), (0, 2), (0, 2)),
        ((3, 4), (4, 5), (10, 12), (1, 5), (2, 6)),
        ((6, 7), (4, 5), (10, 12), (4, 6), (5, 7)),
        ((0, 0), (10, 12), (10, 12), (0, 0), (0, 0)),
        ((1, 0), (9, 11), (10, 12), (0, 1), (0, 1)),
        ((4, 3), (1, 1), (9, 9), (4, 4), (3, 3)),
    ],
)
def test_crops_move_by_up_to_half_their_size_inside_the_section(
    rng: np.random.Generator,
    corner: tuple[int, int],
    crop: tuple[int, int],
    section: tuple[int, int],
    rows: tuple[int, int],
    columns: tuple[int, int],
):
    found = np.array([random_corner(rng, corner, crop, section) for _ in range(200)])
    for drawn, (first, last) in zip(found.T, (rows, columns), strict=True):
        assert set(drawn) == set(range(first, last + 1))


def test_without_augmentation_a_section_is_only_normalised(
    rng: np.random.Generator, sections: np.ndarray
):
    tables = grey_tables(rng, histograms(sections), Augmentation())
    assert tables.dtype == np.float32 and tables.shape == (3, 256)
    expected = np.stack([normalise(section) for section in sections])
    np.testing.assert_allclose(look_up(tables, sections), expected, atol=1e-5)


@pytest.mark.parametrize('gamma', [0.5, 0.8, 1.0, 1.7])
def test_gamma_acts_on_the_grey_values_before_they_are_normalised(
    sections: np.ndarray, gamma: float
):
    tables = normalised_tables(histograms(sections), gamma)
    assert (np.diff(tables, axis=-1) > 0).all()
    expected = np.stack([normalise((section / 255) ** gamma) for section in sections])
    np.testing.assert_allclose(look_up(tables, sections), expected, atol=1e-5)


def test_gain_and_offset_set_contrast_and_brightness_within_their_limits(sections: np.ndarray):
    augmentation = Augmentation(gain=0.3, offset=0.2, gamma=0.5)
    means, deviations, gammas = [], [], []
    for seed in range(200):
        tables = grey_tables(np.random.default_rng(seed), histograms(sections), augmentation)
        assert (np.diff(tables, axis=-1) > 0).all()
        pixels = look_up(tables, sections).astype(float)
        means.append(pixels.mean(axis=(1, 2)))
        deviations.append(pixels.std(axis=(1, 2)))
        # Neither gain nor offset changes the ratio of two differences.
        ratio = (tables[:, 128] - tables[:, 0]) / (tables[:, 255] - tables[:, 0])
        gammas.append(np.log(ratio) / np.log(128 / 255))
    limits = [(-0.2, 0.2), (0.7, 1.3), (-np.log(1.5), np.log(1.5))]
    draws = np.array([means, deviations, np.log(gammas)])
    for drawn, (low, high) in zip(draws, limits, strict=True):
        margin = 0.03 * (high - low)
        assert low - 1e-4 < drawn.min() < low + margin and high - margin < drawn.max() < high + 1e-4
    # Three draws for each of three sections, all independent of each other.
    together = draws.transpose(0, 2, 1).reshape(9, 200)
    assert np.abs(np.corrcoef(together) - np.eye(9)).max() < 0.3


def test_the_same_generator_draws_the_same_tables(sections: np.ndarray):
    augmentation = Augmentation(gain=0.3, offset=0.2, gamma=0.5)
    first, again, other = (
        grey_tables(np.random.default_rng(seed), histograms(sections), augmentation)
        for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


@pytest.mark.parametrize('value', [0, 97, 255])
def test_a_constant_section_becomes_zeros(rng: np.random.Generator, value: int):
    constant = np.full((1, 11, 13), value, np.uint8)
    for gamma in (0.5, 1.0, 2.0):
        tables = normalised_tables(histograms(constant), gamma)
        np.testing.assert_array_equal(look_up(tables, constant), 0)
    tables = grey_tables(rng, histograms(constant), Augmentation(gain=0.3, offset=0.2, gamma=0.5))
    assert np.abs(look_up(tables, constant)).max() <= 0.2  # the offset alone


def test_two_grey_values_of_one_pixel_each_are_not_constant():
    section = np.array([[[7, 8]]], np.uint8)
    np.testing.assert_allclose(
        look_up(normalised_tables(histograms(section)), section), [[[-1, 1]]], atol=1e-6
    )
