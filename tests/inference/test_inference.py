"""Predictions: the mean over views, and the way back from half resolution."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import initialise

from taclnet_jax.data.resolution import doubled, halved_image
from taclnet_jax.inference.sections import create_inference, predict_sections
from taclnet_jax.models.convlstm import ConvLSTM

MODEL = ConvLSTM(hidden=(2,))


@cache
def params():
    return initialise(MODEL, np.zeros((1, 3, 8, 8), np.float32))


@cache
def inference(views, downsample):
    """Once each, so that it is compiled once a shape."""
    return create_inference(
        MODEL,
        slices=3,
        downsample=downsample,
        views=views,
        tile_px=1024,
        window_px=1024,
        window_halo_px=128,
        attention={},
    )


def image(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def turned_over(stack):
    return np.rot90(stack, axes=(1, 2))[:, ::-1]


def predict(stack, views=1, downsample=1):
    infer = inference(views, downsample)
    (section,) = predict_sections(infer, params(), stack, [(1, range(3))])
    return section


@pytest.mark.slow
def test_the_mean_over_all_views_turns_with_the_section() -> None:
    stack = image((3, 40, 33))
    one, of_turned = (predict(x, 8) for x in (stack, turned_over(stack)))
    for name in ('prob', 'critical_map', 'attention', 'refined'):
        here, there = getattr(one, name), getattr(of_turned, name)
        np.testing.assert_allclose(turned_over(here[None])[0], there, atol=2e-6, err_msg=name)
    # A single view does not.
    one, of_turned = (predict(x) for x in (stack, turned_over(stack)))
    assert np.abs(turned_over(one.prob[None])[0] - of_turned.prob).max() > 1e-3


def test_views_are_means_of_predictions_of_flipped_sections() -> None:
    stack = image((3, 24, 24), seed=1)
    flips = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
    expected = np.mean([predict(stack[:, ::y, ::x]).prob[::y, ::x] for y, x in flips], 0)
    found = predict(stack, views=4).prob
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize('shape', [(48, 48), (49, 51)])
def test_half_resolution_is_seen_and_whole_given_back(shape: tuple[int, int]) -> None:
    stack = image((3, *shape), seed=2)
    seen = predict(halved_image(stack))
    whole = predict(stack, downsample=2)
    assert whole.prob.shape == whole.refined.shape == shape
    for name in ('prob', 'critical_map', 'attention', 'refined'):
        fine, coarse = getattr(whole, name), getattr(seen, name)
        assert fine.min() >= 0 and fine.max() <= 1
        # The mean of each 2x2 pixels is near the pixel they were, and the ends of the scale stay.
        height, width = coarse.shape
        means = fine[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean((1, 3))
        smooth = np.pad(coarse, 1, mode='edge')
        weights = np.array([1, 6, 1]) / 8  # of linear interpolation at quarters of a pixel
        smooth = sum(w * smooth[i : i + height] for i, w in enumerate(weights))
        smooth = sum(w * smooth[:, i : i + width] for i, w in enumerate(weights))
        np.testing.assert_allclose(means, smooth, atol=1e-5, err_msg=name)


@given(st.integers(2, 20), st.integers(2, 20), st.integers(0, 1), st.integers(0, 1))
def test_ramps_are_doubled_exactly(height: int, width: int, below: int, right: int) -> None:
    y, x = np.mgrid[:height, :width] + 0.5
    ramp = ((2 * y + 3 * x) / 100).astype(np.float32)
    fine = doubled(ramp, (2 * height + below, 2 * width + right))
    y, x = (np.mgrid[: 2 * height, : 2 * width] + 0.5) / 2
    inner = (slice(1, 2 * height - 1), slice(1, 2 * width - 1))  # beyond it nothing is known
    np.testing.assert_allclose(
        fine[: 2 * height, : 2 * width][inner], ((2 * y + 3 * x) / 100)[inner], atol=1e-5
    )
    if below:
        np.testing.assert_array_equal(fine[-1], fine[-2])
