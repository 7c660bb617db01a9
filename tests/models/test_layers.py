"""The layers against those of flax and lax, and the kernel gradient however it is cut up."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from taclnet_jax.models import convolution
from taclnet_jax.models.layers import Block, UpConvolution, batch_norm, max_pool, pad_to_multiple


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


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
    normalised = jax.eval_shape(Block(8, batch_norm(True, None, jnp.float32)).init, key, x)
    plain = jax.eval_shape(Block(8).init, key, x)
    assert set(normalised['params']['Conv_0']) == {'kernel'}
    assert set(plain['params']) == {'Conv_0', 'Conv_1'} and set(plain) == {'params'}
    assert set(plain['params']['Conv_0']) == {'kernel', 'bias'}


def test_normalisation_by_the_batch_in_training_and_by_running_means_otherwise() -> None:
    x = 3 + 2 * normal(4, 6, 5, 7)
    train, use = (batch_norm(train, None, jnp.float32)() for train in (True, False))
    variables = train.init(jax.random.key(0), x)
    y, updated = train.apply(variables, x, mutable=['batch_stats'])
    mean, deviation = np.mean(x, (0, 1, 2)), np.std(x, (0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / deviation, atol=1e-4)
    statistics = updated['batch_stats']
    np.testing.assert_allclose(statistics['mean'], 0.02 * mean, rtol=1e-5)
    y = use.apply({**variables, **updated}, x)
    expected = (x - 0.02 * mean) / np.sqrt(0.98 + 0.02 * deviation**2)
    np.testing.assert_allclose(y, expected, rtol=1e-4)


@pytest.mark.parametrize('room', [1, 2000, 1 << 30])  # of a row, of rows, of images
def test_kernel_gradient_does_not_depend_on_the_strips(
    monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(convolution, '_STRIP_BYTES', room)
    for channels, features in ((3, 5), (5, 3)):
        x, upstream = normal(4, 11, 7, channels), normal(4, 11, 7, features, seed=1)
        kernel = jnp.zeros((3, 3, channels, features))
        got = jax.jit(convolution._kernel_gradient_by_strips)(x, kernel, upstream)
        expected = jax.jit(convolution._kernel_gradient)(x, kernel, upstream)
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-5)
