"""The layers against those of flax and lax, and the kernel gradient however it is cut up."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from taclnet_jax.models import convolution
from taclnet_jax.models.layers import Block, LayerNorm, UpConvolution, max_pool, pad_to_multiple


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_layer_norm_is_that_of_flax_with_its_gradients(dtype: str) -> None:
    x, upstream = (3 + 2 * normal(2, 5, 6, 12)).astype(dtype), normal(2, 5, 6, 12, seed=3)
    params = {'params': {'scale': normal(12, seed=1), 'bias': normal(12, seed=2)}}

    @partial(jax.jit, static_argnums=0)
    def value_and_gradients(layer: nn.Module, params: Any, x: jax.Array) -> Any:
        y, pull_back = jax.vjp(layer.apply, params, x)
        return y, pull_back(upstream.astype(dtype))

    theirs = nn.LayerNorm(dtype=dtype, use_fast_variance=False)
    expected, got = (
        value_and_gradients(layer, params, x) for layer in (theirs, LayerNorm(jnp.dtype(dtype)))
    )
    assert jax.tree.map(lambda x: x.dtype, got) == jax.tree.map(lambda x: x.dtype, expected)
    as_float32 = jax.tree.map(lambda x: x.astype(jnp.float32), (got, expected))
    tolerance = 1e-5 if dtype == 'float32' else 0.02
    jax.tree.map(partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), *as_float32)


def test_layer_norm_of_constant_pixels_is_finite() -> None:
    params = {'params': {'scale': jnp.ones(8), 'bias': jnp.zeros(8)}}

    @jax.jit
    def slope(x: jax.Array) -> jax.Array:
        return jax.grad(lambda x: jnp.sum(jnp.square(LayerNorm().apply(params, x)) * x))(x)

    assert np.isfinite(slope(jnp.full((1, 4, 4, 8), 1e3))).all()


def test_max_pool_is_that_of_flax() -> None:
    x = normal(2, 6, 4, 3)
    np.testing.assert_array_equal(max_pool(x), nn.max_pool(x, (2, 2), (2, 2)))


def test_up_convolution_is_a_transposed_convolution() -> None:
    x, product = normal(2, 3, 4, 5), normal(5, 24, seed=1)
    params = {'params': {'Dense_0': {'kernel': product}, 'bias': jnp.arange(6.0)}}
    # lax correlates, so the kernel's first row comes last.
    kernel = product.reshape(5, 2, 2, 6).transpose(1, 2, 0, 3)[::-1, ::-1]
    expected = lax.conv_transpose(
        x, kernel, (2, 2), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    got = jax.jit(UpConvolution(6).apply)(params, x)
    np.testing.assert_allclose(got, expected + jnp.arange(6.0), atol=1e-5)


def test_padding_mirrors_the_lower_and_the_right_border() -> None:
    x = jnp.arange(15.0).reshape(1, 5, 3, 1)
    padded = np.asarray(pad_to_multiple(x, 4))[0, :, :, 0]
    np.testing.assert_array_equal(padded, np.pad(x[0, :, :, 0], ((0, 3), (0, 1)), mode='reflect'))
    assert pad_to_multiple(x, 1) is x or np.array_equal(pad_to_multiple(x, 1), x)


def test_a_block_without_normalisation_has_biases_instead() -> None:
    x, key = jnp.zeros((1, 4, 4, 2)), jax.random.key(0)
    normalised = jax.eval_shape(Block(8, normalise=True).init, key, x)['params']
    plain = jax.eval_shape(Block(8).init, key, x)['params']
    assert set(normalised['Conv_0']) == {'kernel'}
    assert set(plain) == {'Conv_0', 'Conv_1'}
    assert set(plain['Conv_0']) == {'kernel', 'bias'}


@pytest.mark.parametrize('room', [1, 3000, 40000, 1 << 30])  # of a row, of rows, of images
def test_kernel_gradient_does_not_depend_on_the_strips(
    monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(convolution, '_PATCH_BYTES', room)
    for channels, features in ((3, 5), (5, 3)):
        x, upstream = normal(4, 11, 7, channels), normal(4, 11, 7, features, seed=1)
        kernel = jnp.zeros((3, 3, channels, features))
        got = jax.jit(convolution._kernel_gradient_by_products)(x, kernel, upstream)
        expected = jax.jit(convolution._kernel_gradient)(x, kernel, upstream)
        np.testing.assert_allclose(got, expected, atol=2e-5)
