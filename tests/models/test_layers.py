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
from taclnet_jax.models.layers import Block, Conv, UpConvolution, max_pool, pad_to_multiple
from taclnet_jax.models.normalisation import BatchNormReLU


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
    normalised = jax.eval_shape(Block(8, partial(BatchNormReLU, True)).init, key, x)
    plain = jax.eval_shape(Block(8).init, key, x)
    assert set(normalised['params']['Conv_0']) == {'kernel'}
    assert set(plain['params']) == {'Conv_0', 'Conv_1'} and set(plain) == {'params'}
    assert set(plain['params']['Conv_0']) == {'kernel', 'bias'}


@pytest.mark.parametrize('kernel', [1, 3, 5])
def test_a_convolution_is_that_of_flax(kernel: int) -> None:
    x, upstream = normal(2, 9, 6, 3), normal(2, 9, 6, 4, seed=1)
    ours, theirs = Conv(4, kernel), nn.Conv(4, (kernel, kernel), kernel_init=Conv.kernel_init)
    params = ours.init(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, params, theirs.init(jax.random.key(0), x))
    y, back = jax.vjp(ours.apply, params, x)
    expected, their_back = jax.vjp(theirs.apply, params, x)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4),
        back(upstream),
        their_back(upstream),
    )


@pytest.mark.parametrize('normalised', [False, True])
def test_a_block_sees_several_arrays_as_one(normalised: bool) -> None:
    parts, upstream = (normal(2, 9, 6, 3), normal(2, 9, 6, 5, seed=1)), normal(2, 9, 6, 4, seed=2)
    block = Block(4, partial(BatchNormReLU, False) if normalised else None)
    variables = block.init(jax.random.key(0), *parts)

    def joined(variables: Any, *parts: jax.Array) -> Any:
        return block.apply(variables, jnp.concatenate(parts, axis=-1))

    expected, their_back = jax.vjp(joined, variables, *parts)
    y, back = jax.vjp(block.apply, variables, *parts)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4),
        back(upstream),
        their_back(upstream),
    )


@pytest.mark.parametrize('room', [1, 2000, 1 << 30])  # of a row, of rows, of images
def test_kernel_gradient_does_not_depend_on_the_strips(
    monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(convolution, '_STRIP_BYTES', room)
    for side, channels, features in ((3, 3, 5), (3, 5, 3), (1, 5, 3), (5, 2, 3)):
        x, upstream = normal(4, 11, 7, channels), normal(4, 11, 7, features, seed=1)
        kernel = jnp.zeros((side, side, channels, features))
        got = jax.jit(convolution._kernel_gradient_by_strips)(x, kernel, upstream)
        expected = jax.jit(convolution._kernel_gradient)(x, kernel, upstream)
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-5)
