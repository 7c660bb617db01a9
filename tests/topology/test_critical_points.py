"""Critical points and critical maps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from taclnet_jax.topology import BACKENDS, critical_map, critical_points, persistence_pairs

DATA = os.environ.get('TACLNET_DATA_DIR')
needs_data = pytest.mark.skipif(not DATA, reason='TACLNET_DATA_DIR is not set')


def cells(height: int = 24, width: int = 40) -> np.ndarray:
    """Two cells in membrane. The weakest pixels around them are (10, 20), 0.7, and (9, 39), 0.4."""
    prob = np.full((height, width), 0.9, np.float32)
    prob[3:20, 3:20] = 0.05
    prob[3:20, 21:39] = 0.1
    prob[10, 20] = 0.7
    prob[9, 39] = 0.4
    return prob


def test_critical_points_are_the_weakest_pixels_of_membranes() -> None:
    def found(**options: Any) -> list[list[int]]:
        return np.argwhere(critical_points(cells(), **options)).tolist()

    # The frame closes the gap at (9, 39).
    assert found() == [[10, 20]]
    assert found(border='open') == [[9, 39], [10, 20]]
    assert found(border='open', min_persistence=0.32) == [[10, 20]]
    assert found(border='open', min_persistence=0.7) == []
    ((row, column),) = found(kind='death')
    assert cells()[row, column] == np.float32(0.1)
    assert found(kind='both') == sorted(found(kind='birth') + found(kind='death'))


@pytest.mark.slow
@pytest.mark.parametrize('backend', BACKENDS)
def test_persistence_must_exceed_the_minimum(backend: str) -> None:
    prob = cells()
    exactly = float(np.float32(0.7) - np.float32(0.1))
    below = float(np.nextafter(np.float32(exactly), np.float32(0)))
    for least, count in ((below, 1), (exactly, 0)):
        points = critical_points(prob, min_persistence=least, backend=backend)
        assert points.sum() == count


@needs_data
def test_backends_agree_on_a_real_likelihood() -> None:
    data = np.load(Path(DATA or '') / 'vectors' / 'persistence_real_ties_156.npz')
    for kind in ('birth', 'both'):
        one, *others = (critical_points(data['prob'], kind=kind, backend=b) for b in BACKENDS)
        for other in others:
            np.testing.assert_array_equal(one, other)
    persistence = data['framed_values'] @ [1, -1]
    assert critical_points(data['prob']).sum() == (persistence > 0.1).sum()


@pytest.mark.parametrize('backend', BACKENDS)
def test_saturated_probabilities_have_no_spurious_points(backend: str) -> None:
    yes = np.zeros((3, 60, 60), np.float32)
    yes[0, 10:13] = yes[0, :, 30:34] = 1
    yes[2] = 1
    for dtype in (jnp.float32, jnp.bfloat16):
        points = critical_points(jnp.asarray(yes, dtype), backend=backend)
        # Four cells in a frame: one is the frame's own.
        np.testing.assert_array_equal(points.sum((1, 2)), [3, 0, 0])


def gaussians(points: np.ndarray, sigma: float = 1.0) -> np.ndarray:
    """The sum of 5x5 Gaussians of height 1 at the points of an image, cut at 1, in float64."""
    y, x = np.mgrid[-2:3, -2:3]
    kernel = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    return np.minimum(ndimage.correlate(points.astype(float), kernel, mode='constant'), 1)


@pytest.mark.slow
@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('sigma', (0.7, 2.5))
@pytest.mark.parametrize('shape', [(37, 45), (1, 1), (9, 2)])
def test_critical_map_is_the_sum_of_gaussians_cut_at_1(
    shape: tuple[int, int], sigma: float, backend: str
) -> None:
    prob = np.round(np.random.default_rng(0).random((2, *shape)) * 255).astype(np.float32) / 255
    for options in ({}, dict(kind='both', min_persistence=0.6), dict(kind='both')):
        points = np.asarray(critical_points(prob, backend=backend, **options))
        found = np.asarray(critical_map(prob, sigma=sigma, backend=backend, **options))
        expected = [gaussians(image, sigma) for image in points]
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert (found[points] == 1).all() and found.max() <= 1


def peaks(shape: tuple[int, int], points: Any) -> np.ndarray:
    """Points as islands, whose births are critical; the first, which never dies, is none."""
    prob = np.zeros(shape, np.float32)
    prob[tuple(np.transpose(points))] = 0.5
    prob[tuple(points[0])] = 1
    return prob


of_peaks = jax.jit(lambda prob: critical_map(prob, dimension=0, border='open'))


def test_an_isolated_point_is_1_wherever_it_lies() -> None:
    places = list(np.ndindex(6, 7))
    far = [(5, 6) if y + x < 6 else (0, 0) for y, x in places]
    found = of_peaks(np.stack([peaks((6, 7), pair) for pair in zip(far, places, strict=True)]))
    for image, (y, x) in zip(np.asarray(found), places, strict=True):
        assert image[y, x] == 1
        alone = np.zeros((6, 7), bool)
        alone[y, x] = True
        np.testing.assert_allclose(image, gaussians(alone), atol=1e-7)
        assert ((image > 0) == ndimage.binary_dilation(alone, np.ones((5, 5)))).all()


SHAPE = (12, 15)
PLACES = st.tuples(st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[1] - 1))


@settings(max_examples=100, deadline=None)
@given(st.lists(PLACES, min_size=2, max_size=40), st.integers(1, 40))
def test_critical_map_is_local(places: list[tuple[int, int]], count: int) -> None:
    points = []
    for place in places:  # islands must not touch
        if all(max(abs(np.subtract(place, other))) > 1 for other in points):
            points.append(place)
    found, marks = [], []
    for some in (points[:count], points):
        prob = peaks(SHAPE, some)
        found.append(np.asarray(of_peaks(prob)))
        marks.append(prob == 0.5)
        assert (found[-1][marks[-1]] == 1).all() and found[-1].max() <= 1
        np.testing.assert_allclose(found[-1], gaussians(marks[-1]), atol=1e-6)
    untouched = ~ndimage.binary_dilation(marks[1] & ~marks[0], np.ones((5, 5)))
    np.testing.assert_array_equal(found[0][untouched], found[1][untouched])


def test_overlapping_gaussians_are_cut_at_1() -> None:
    cp = of_peaks(peaks((9, 11), [(8, 10), (3, 3), (3, 5), (3, 7)]))
    np.testing.assert_array_equal(cp[3, 3:8], 1)  # 2 exp(-1/2) is more
    np.testing.assert_allclose(
        cp[4, 2:5], [np.exp(-1), np.exp(-0.5) + np.exp(-2.5), 2 * np.exp(-1)]
    )


def test_critical_map_keeps_the_dtype_and_stops_the_gradient() -> None:
    prob = jnp.asarray(cells())
    assert critical_map(prob.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    gradient = jax.grad(lambda x: jnp.sum(x * critical_map(x)))(prob)
    np.testing.assert_array_equal(gradient, critical_map(prob))


@pytest.mark.parametrize('backend', BACKENDS)
def test_nan_images_have_no_points(backend: str) -> None:
    prob = np.stack([cells(), cells()])
    prob[0, 0, 0] = np.nan
    for find in (critical_map, jax.jit(critical_map, static_argnames='backend')):
        maps = find(prob, backend=backend)
        np.testing.assert_allclose(maps.max((1, 2)), [0, 1], atol=1e-6)


def test_dimension_and_filtration_choose_the_features() -> None:
    prob = np.random.default_rng(1).random((20, 20)).astype(np.float32)
    for dimension in (0, 1):
        for filtration in ('superlevel', 'sublevel'):
            options = dict(dimension=dimension, filtration=filtration)
            points = critical_points(prob, min_persistence=0, kind='birth', **options)
            pairs = persistence_pairs(prob, **options)
            expected = np.zeros((20, 20), bool)
            expected[tuple(np.asarray(pairs.birth)[np.asarray(pairs.mask)].T)] = True
            np.testing.assert_array_equal(points, expected)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'kind': 'saddle'}, 'saddle'),
        ({'min_persistence': -0.5}, '-0.5'),
        ({'min_persistence': float('nan')}, 'nan'),
        ({'sigma': 0}, 'sigma .* 0'),
        ({'backend': 'cuda'}, 'cuda'),
    ],
)
def test_wrong_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        critical_map(cells(), **options)
