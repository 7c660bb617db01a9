"""What the networks of this package are built of. All arrays are `[n, height, width, channels]`."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

Convolution = partial(nn.Conv, kernel_init=nn.initializers.he_normal())
"""A convolution, He-initialised (He et al. 2015); zeros beyond the border."""


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016): each pixel's channels to mean 0, variance 1.

    Nothing of a pixel enters another, so tiles of a section are normalised as the whole is. On CPUs
    it is faster than `flax.linen.LayerNorm` (`python -m benchmarks.layers`).

    Attributes:
        dtype: of the result; the moments are taken in float32.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param('scale', nn.initializers.ones, x.shape[-1:])
        bias = self.param('bias', nn.initializers.zeros, x.shape[-1:])
        return (_normalised(x) * scale + bias).astype(self.dtype)


@jax.custom_vjp
def _normalised(x: jax.Array) -> jax.Array:
    return _normalised_forward(x)[0]


def _normalised_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    exact = x.astype(jnp.float32)
    mean = exact.mean(-1, keepdims=True)
    variance = jnp.square(exact - mean).mean(-1, keepdims=True)
    # Without the barrier XLA works them out for each channel again.
    mean, factor = lax.optimization_barrier((mean, lax.rsqrt(variance + 1e-6)))
    return (exact - mean) * factor, (x, mean, factor)


def _normalised_backward(residuals: tuple[jax.Array, ...], upstream: jax.Array) -> tuple[jax.Array]:
    x, mean, factor = residuals
    y = (x.astype(jnp.float32) - mean) * factor
    constant, slope = lax.optimization_barrier(
        (upstream.mean(-1, keepdims=True), (upstream * y).mean(-1, keepdims=True))
    )
    return ((factor * (upstream - constant - slope * y)).astype(x.dtype),)


_normalised.defvjp(_normalised_forward, _normalised_backward)


class Block(nn.Module):
    """Two 3x3 convolutions, each with `LayerNorm`, if asked for, and ReLU.

    Attributes:
        features: channels of the output.
        normalise: whether to.
        dtype: of the computation.
    """

    features: int
    normalise: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., channels]` to `[..., features]`."""
        for _ in range(2):
            # The normalisation has a bias of its own.
            bias = not self.normalise
            x = Convolution(self.features, (3, 3), use_bias=bias, dtype=self.dtype)(x)
            if self.normalise:
                x = LayerNorm(self.dtype)(x)
            x = nn.relu(x)
        return x


class UpConvolution(nn.Module):
    """The 2x2 convolution of stride 1/2 that doubles height and width.

    Its four output pixels do not overlap, so it is one matrix product and a change of shape.

    Attributes:
        features: channels of the output.
        dtype: of the computation.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[n, height, width, channels]` to `[n, 2 height, 2 width, features]`."""
        n, height, width, _ = x.shape
        initialise = nn.initializers.he_normal()
        product = nn.Dense(4 * self.features, False, self.dtype, kernel_init=initialise)(x)
        x = product.reshape(n, height, width, 2, 2, self.features).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(n, 2 * height, 2 * width, self.features)
        return x + self.param('bias', nn.initializers.zeros, (self.features,)).astype(self.dtype)


def max_pool(x: jax.Array) -> jax.Array:
    """The largest of each 2x2 pixels; even height and width.

    Comparing slices is faster on CPUs than a window, its gradient above all
    (`python -m benchmarks.layers`).
    """
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


def pad_to_multiple(x: jax.Array, multiple: int) -> jax.Array:
    """Reflects the lower and the right border until height and width are multiples."""
    below, right = (-size % multiple for size in x.shape[1:3])
    return jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)), mode='reflect')
