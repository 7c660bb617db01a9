"""The ConvLSTM against its equations in NumPy, and the fast kernel gradient against XLA's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import initialise
from scipy.ndimage import correlate

from taclnet_jax.models.convlstm import ConvLSTM
from taclnet_jax.models.convolution import convolve


def convolve_in_numpy(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """`[height, width, channels]` in float64, one scipy correlation a pair of channels."""
    outputs = np.zeros((*x.shape[:2], kernel.shape[-1]))
    for c in range(kernel.shape[2]):
        for f in range(kernel.shape[3]):
            outputs[..., f] += correlate(x[..., c], kernel[:, :, c, f], mode='constant')
    return outputs


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def convlstm_in_numpy(params: dict, window: np.ndarray, layers: int) -> np.ndarray:
    """Logits of one window, from Shi et al.'s equations (without peepholes)."""
    sections = [section[..., None].astype(float) for section in window]
    for layer in range(layers):
        cell_params = params[f'ConvLSTMLayer_{layer}']['ConvLSTMCell_0']
        kernel, bias = (np.asarray(cell_params[key], float) for key in ('kernel', 'bias'))
        features = len(bias) // 4
        hidden = cell = np.zeros((*window.shape[1:], features))
        outputs = []
        for x in sections:
            gates = convolve_in_numpy(np.concatenate([x, hidden], -1), kernel) + bias
            i, g, f, o = np.split(gates, 4, -1)
            cell = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(cell)
            outputs.append(hidden)
        sections = outputs
    last = params['Conv_0']
    maps = sections[-1] @ np.asarray(last['kernel'], float)[0, 0] + np.asarray(last['bias'], float)
    return np.moveaxis(maps, -1, 0)


@pytest.mark.parametrize('slices', [1, 3, 5])
def test_logits_follow_the_equations(slices: int) -> None:
    model = ConvLSTM(hidden=(3, 2))
    image = np.random.default_rng(slices).normal(size=(2, slices, 7, 9)).astype(np.float32)
    params = initialise(model, jnp.asarray(image))
    got = jax.jit(model.apply)(params, image)
    assert got.shape == image.shape and got.dtype == jnp.float32
    for window, logits in zip(image, got, strict=True):
        np.testing.assert_allclose(
            logits, convlstm_in_numpy(params['params'], window, 3), atol=2e-5
        )


def test_every_map_sees_every_section() -> None:
    model = ConvLSTM(hidden=(4,))
    image = jax.random.normal(jax.random.key(1), (1, 3, 9, 9))
    params = initialise(model, image)
    slopes = jax.jit(jax.jacobian(lambda x: model.apply(params, x)[0, :, 4, 4]))(image)[:, 0]
    assert (np.abs(slopes).max((-2, -1)) > 0).all()  # [map, section]


def test_bfloat16_computes_close_to_float32() -> None:
    image = jax.random.normal(jax.random.key(1), (1, 3, 16, 16))
    params = initialise(ConvLSTM(dtype=jnp.bfloat16), image)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(params))
    exact = jax.jit(ConvLSTM().apply)(params, image)
    rounded = jax.jit(ConvLSTM(dtype=jnp.bfloat16).apply)(params, image)
    assert rounded.dtype == jnp.float32
    np.testing.assert_allclose(rounded, exact, atol=0.03)


@pytest.mark.parametrize('side', [1, 3, 5])
@pytest.mark.parametrize('shape', [(2, 1, 1), (1, 5, 8), (3, 17, 6)])
def test_convolution_has_the_gradients_of_xla(side: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(side)
    shapes = (*shape, 4), (side, side, 4, 3), (*shape, 3)
    x, kernel, upstream = (rng.normal(size=size).astype(np.float32) for size in shapes)

    def reference(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )

    def values(function: Callable[..., jax.Array]) -> Callable[..., Any]:
        """The result, and the gradients to both arguments."""

        def both(x: jax.Array, kernel: jax.Array, upstream: jax.Array) -> Any:
            result, pull_back = jax.vjp(function, x, kernel)
            return result, *pull_back(upstream)

        return jax.jit(both)

    def in_two_parts(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolve((x[..., :1], x[..., 1:]), kernel)

    got, *gradients = values(in_two_parts)(x, kernel, upstream)
    expected, *expected_gradients = values(reference)(x, kernel, upstream)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
