"""The random draws: symmetries, places of crops, grey values, faults of sections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import normalise

from taclnet_jax.config.data import AugmentSettings
from taclnet_jax.data.augmentation import (
    FAULTS,
    degrade,
    grey_tables,
    random_corner,
    random_symmetry,
)
from taclnet_jax.data.normalisation import normalised_tables
from taclnet_jax.errors import InputError


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
    tables = grey_tables(rng, histograms(sections), AugmentSettings())
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
    augmentation = AugmentSettings(gain=0.3, offset=0.2, gamma=0.5)
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
    augmentation = AugmentSettings(gain=0.3, offset=0.2, gamma=0.5)
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
    tables = grey_tables(
        rng, histograms(constant), AugmentSettings(gain=0.3, offset=0.2, gamma=0.5)
    )
    assert np.abs(look_up(tables, constant)).max() <= 0.2  # the offset alone


def test_two_grey_values_of_one_pixel_each_are_not_constant():
    section = np.array([[[7, 8]]], np.uint8)
    np.testing.assert_allclose(
        look_up(normalised_tables(histograms(section)), section), [[[-1, 1]]], atol=1e-6
    )


def test_dark_sections_lose_contrast_and_brightness(sections: np.ndarray):
    strengths = []
    for seed in range(100):
        plain, dark = (
            grey_tables(np.random.default_rng(seed), histograms(sections), augmentation)
            for augmentation in (
                AugmentSettings(gain=0.1, gamma=0.2),
                AugmentSettings(gain=0.1, gamma=0.2, dark=0.5, dark_strength=0.6),
            )
        )
        for before, after in zip(plain, dark, strict=True):
            strength = 1 - np.ptp(after) / np.ptp(before)
            np.testing.assert_allclose(after, before * (1 - strength) - strength, atol=1e-5)
            strengths.append(strength)
    drawn = np.array(strengths)
    changed = drawn[drawn > 1e-6]
    assert 0.4 < len(changed) / len(drawn) < 0.6
    assert 0.3 - 1e-6 < changed.min() < 0.33 and 0.57 < changed.max() < 0.6 + 1e-6


def degraded(image: np.ndarray, seed: int = 0, **settings: Any) -> np.ndarray:
    image = image.copy()
    degrade(np.random.default_rng(seed), image, AugmentSettings(**settings))
    return image


def test_blur_spreads_a_point_by_its_sigma():
    point = np.zeros((3, 41, 43), np.float32)
    point[:, 20, 21] = 1
    offset = np.arange(41) - 20
    sigmas = []
    for seed in range(60):
        for spread in degraded(point, seed, blur=0.5, blur_px=3.0):
            np.testing.assert_allclose(spread.sum(), 1, atol=1e-5)
            np.testing.assert_allclose(spread, spread[:, ::-1], atol=1e-7)
            sigmas.append(np.sqrt((spread.sum(axis=1) * offset**2).sum()))
    drawn = np.array(sigmas)
    blurred = drawn[drawn > 0]
    assert 0.4 < len(blurred) / len(drawn) < 0.6
    # Cut off at four sigma: a hundredth is lost.
    assert 1.48 < blurred.min() < 1.6 and 2.85 < blurred.max() < 3.0


def test_noise_is_white_and_of_its_strength():
    image = np.random.default_rng(3).normal(size=(3, 60, 61)).astype(np.float32)
    deviations = []
    for seed in range(40):
        for noise in degraded(image, seed, noise=0.5, noise_strength=0.4) - image:
            if noise.any():
                deviations.append(noise.std())
                assert abs(noise.mean()) < 0.05 * noise.std() + 0.02
                neighbours = np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]
                assert abs(neighbours) < 0.08
    assert 0.4 < len(deviations) / 120 < 0.6
    assert 0.19 < min(deviations) < 0.23 and 0.37 < max(deviations) < 0.42
    first, second, third = degraded(image, 1, noise=1.0) - image
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.08
    assert abs(np.corrcoef(second.ravel(), third.ravel())[0, 1]) < 0.08


@pytest.mark.parametrize('slices', [1, 3, 5])
@pytest.mark.parametrize('size', [(17, 20), (1, 9), (1, 1)])
def test_one_section_is_missing_whole_or_on_one_side_of_a_line(slices: int, size: tuple[int, int]):
    image = np.random.default_rng(4).normal(size=(slices, *size)).astype(np.float32)
    which, whole, shares = set(), 0, []
    for seed in range(200):
        after = degraded(image, seed, missing=1.0)
        changed = after != image
        assert changed.any()
        (section,) = np.flatnonzero(changed.any(axis=(1, 2)))
        which.add(int(section))
        missing = changed[section]
        (value,) = np.unique(after[section][missing])
        if missing.all() and value == 0:
            whole += 1
        else:
            assert -2 <= value <= 2
            shares.append(missing.mean())
            for lines in (missing, missing.T):  # each row and column crosses the line at most once
                assert (np.diff(lines.astype(int), axis=1) != 0).sum(axis=1).max(initial=0) <= 1
    assert which == set(range(slices))
    assert (75 < whole < 125) if slices > 1 else whole == 0
    if min(size) > 1:
        assert min(shares) < 0.2 and max(shares) > 0.8 and 0.4 < np.mean(shares) < 0.6


def test_a_section_is_missing_as_often_as_asked_for():
    image = np.ones((3, 4, 4), np.float32)
    changed = sum((degraded(image, seed, missing=0.3) != image).any() for seed in range(1000))
    assert 250 < changed < 350


def test_what_is_missing_is_neither_blurred_nor_noisy():
    image = np.random.default_rng(4).normal(size=(3, 17, 20)).astype(np.float32)
    for seed in range(20):
        missing = degraded(image, seed, missing=1.0) != image
        others = degraded(image, seed, blur=1.0, noise=1.0)
        together = degraded(image, seed, blur=1.0, noise=1.0, missing=1.0)
        np.testing.assert_array_equal(together[~missing], others[~missing])
        assert len(np.unique(together[missing])) == 1


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 20), st.integers(1, 20)),
    seed=st.integers(0, 2**32),
)
def test_degrading_keeps_constant_sections_finite_and_is_repeatable(
    shape: tuple[int, int, int], seed: int
):
    zeros = np.zeros(shape, np.float32)
    half = {'blur': 0.5, 'noise': 0.5, 'missing': 0.5}
    first = degraded(zeros, seed, **half)
    assert np.isfinite(first).all() and first.dtype == np.float32
    np.testing.assert_array_equal(first, degraded(zeros, seed, **half))
    image = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    np.testing.assert_array_equal(degraded(image, seed, blur_px=9, noise_strength=9), image)


@pytest.mark.parametrize('name', FAULTS)
def test_faults_are_probabilities(name: str):
    AugmentSettings(**{name: 1.0})
    with pytest.raises(InputError, match=f'config.augment.{name} to be from 0 to 1; found 1.1'):
        AugmentSettings(**{name: 1.1})
