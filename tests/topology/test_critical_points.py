"""Critical points and critical maps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from taclnet_jax.topology import critical_map, critical_points, persistence_pairs

BACKENDS = ('gudhi', 'xla')
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
        one, other = (critical_points(data['prob'], kind=kind, backend=b) for b in BACKENDS)
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


@pytest.mark.parametrize('sigma', (0.7, 1.0, 2.5))
@pytest.mark.parametrize('shape', [(37, 45), (1, 1), (2, 9)])
def test_critical_map_is_a_scaled_gaussian(sigma: float, shape: tuple[int, int]) -> None:
    prob = np.round(np.random.default_rng(0).random((2, *shape)) * 255).astype(np.float32) / 255
    points = np.asarray(critical_points(prob))
    found = np.asarray(critical_map(prob, sigma=sigma))
    for image, point in zip(found, points, strict=True):
        expected = ndimage.gaussian_filter(point.astype(float), sigma, radius=2, mode='reflect')
        expected /= expected.max() or 1
        np.testing.assert_allclose(image, expected, atol=1e-6)
        assert image.max() == pytest.approx(1 if point.any() else 0, abs=1e-6)


def test_critical_map_keeps_the_dtype_and_stops_the_gradient() -> None:
    prob = jnp.asarray(cells())
    assert critical_map(prob.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    gradient = jax.grad(lambda x: jnp.sum(x * critical_map(x)))(prob)
    np.testing.assert_array_equal(gradient, critical_map(prob))


@pytest.mark.parametrize('backend', BACKENDS)
def test_nan_images_have_no_points(backend: str) -> None:
    prob = np.stack([cells(), cells()])
    prob[0, 0, 0] = np.nan
    maps = critical_map(prob, backend=backend)
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
