"""Misalignment, elastic deformation and reading beyond the border, each against an oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from taclnet_jax.data.deformation import (
    elastic_displacement,
    inside,
    margin_px,
    misalignment,
    read_mirrored,
    warp,
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize('slices', [1, 3, 5])
def test_misaligned_sections_slip_or_step_about_the_target(slices: int):
    target, kinds, seen = slices // 2, set(), set()
    for seed in range(400):
        moves = misalignment(generator(seed), slices, 1.0, 2)
        assert moves.shape == (slices, 2) and not moves[target].any()
        against_first = moves - moves[0]
        changed = tuple((np.abs(np.diff(against_first, axis=0)).sum(axis=1) > 0).tolist())
        assert sum(changed) <= 2  # a step is one change of place, a slip there and back
        if sum(changed) == 2:
            first, second = np.flatnonzero(changed)
            assert second == first + 1
            np.testing.assert_array_equal(against_first[-1], 0)
        kinds.add(changed)
        seen |= {tuple(move) for move in moves.tolist()}
    if slices == 1:
        assert seen == {(0, 0)}
    else:
        assert seen == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}
        # None (displaced by 0), each step, each slip of an inner section.
        assert len(kinds) == 1 + (slices - 1) + (slices - 2)


def test_misalignment_is_as_frequent_as_asked_for():
    faults = sum(misalignment(generator(s), 3, 0.3, 50).any() for s in range(1000))
    assert 250 < faults < 350
    assert not any(misalignment(generator(s), 3, 0.0, 50).any() for s in range(50))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    corner=st.tuples(st.integers(-20, 20), st.integers(-20, 20)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_beyond_the_border_sections_are_mirrored(
    shape: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
):
    section = np.arange(shape[0] * shape[1]).reshape(shape)

    class Reader:
        """Takes nothing but places inside the section."""

        shape = (3, *section.shape)
        dtype = section.dtype

        def __getitem__(self, key: Any) -> np.ndarray:
            z, rows, columns = key
            assert z == 1
            for part, full in ((rows, shape[0]), (columns, shape[1])):
                assert 0 <= part.start < part.stop <= full and part.step is None
            return section[rows, columns]

    crop = np.s_[
        40 + corner[0] : 40 + corner[0] + size[0], 40 + corner[1] : 40 + corner[1] + size[1]
    ]
    expected = np.pad(section, 40, mode='reflect')[crop]
    np.testing.assert_array_equal(read_mirrored(Reader(), 1, corner, size), expected)
    there = np.pad(np.ones(shape, bool), 40)[crop]
    np.testing.assert_array_equal(inside(corner, size, shape), there)


@pytest.mark.parametrize('size', [(1, 1), (31, 7), (156, 100)])
@pytest.mark.parametrize('spacing', [1, 16, 48])
def test_elastic_displacement_is_a_cubic_spline_within_its_bounds(
    size: tuple[int, int], spacing: int
):
    most = spacing / 4
    field = elastic_displacement(generator(), size, 1.0, most, spacing)
    assert field is not None and field.shape == (2, *size) and field.dtype == np.float32
    assert np.abs(field).max() <= most
    lattice = generator().uniform(-most, most, (2, *((n - 1) // spacing + 4 for n in size)))

    def spline(coefficients: np.ndarray, count: int) -> np.ndarray:
        knots = np.arange(-3, len(coefficients) + 1)
        return BSpline(knots, coefficients, 3)(np.arange(count) / spacing)

    for found, coefficients in zip(field, lattice, strict=True):
        expected = spline(spline(coefficients, size[0]).T, size[1]).T
        np.testing.assert_allclose(found, expected, atol=1e-5 * most)


def test_elastic_deformation_at_its_limit_does_not_fold():
    y, x = np.mgrid[:100, :90]
    for seed in range(20):
        field = elastic_displacement(generator(seed), (100, 90), 1.0, 5.0, 20)
        assert field is not None
        (down_y, right_y), (down_x, right_x) = np.gradient(y + field[0]), np.gradient(x + field[1])
        assert (down_y * right_x - right_y * down_x).min() > 0


def test_elastic_deformation_is_as_frequent_as_asked_for():
    def drawn(seed: int, probability: float) -> bool:
        return elastic_displacement(generator(seed), (9, 9), probability, 2.0, 8) is not None

    assert 150 < sum(drawn(seed, 0.2) for seed in range(1000)) < 250
    assert not any(drawn(seed, 0.0) for seed in range(50))
    assert all(drawn(seed, 1.0) for seed in range(50))


@pytest.mark.parametrize('slices', [1, 5])
@pytest.mark.parametrize('size', [(1, 1), (13, 30), (31, 8)])
def test_warping_interpolates_linearly(slices: int, size: tuple[int, int]):
    most = 3.3
    margin = margin_px(most)
    rng = generator(1)
    shape = (slices, *(n + 2 * margin for n in size))
    image = rng.normal(size=shape).astype(np.float32)
    field = rng.uniform(-most, most, (2, *size)).astype(np.float32)
    field.reshape(-1)[:2] = (most, -most)
    # By hand, in float64: the four pixels around each place, by their distances.
    y, x = np.indices(size) + margin + field.astype(float)
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    expected = sum(
        image[:, top + down, left + right].astype(float)
        * abs(1 - down - (y - top))
        * abs(1 - right - (x - left))
        for down in (0, 1)
        for right in (0, 1)
    )
    moved = warp(image, field)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, expected, atol=2e-5)


@pytest.mark.parametrize('move', [(0, 0), (2, -3)])
def test_a_displacement_of_whole_pixels_moves_the_crop(move: tuple[int, int]):
    rng = generator(2)
    image = rng.normal(size=(3, 18, 19)).astype(np.float32)
    field = np.broadcast_to(np.array(move, np.float32)[:, None, None], (2, 10, 11))
    expected = image[:, 4 + move[0] : 14 + move[0], 4 + move[1] : 15 + move[1]]
    np.testing.assert_array_equal(warp(image, field), expected)
