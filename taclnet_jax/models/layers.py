"""What the networks of this package are built of. All arrays are `[n, height, width, channels]`."""

from collections.abc import Callable
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from taclnet_jax.models.convolution import Parts, convolve, kernels_of

Norm = Callable[..., nn.Module]
"""Makes what normalises, and takes the positive part, of a name."""


class Conv(nn.Module):
    """A convolution of the same size, He-initialised (He et al. 2015); zeros beyond the border.

    Parameters are those of `flax.linen.Conv`, whose gradient is slower on CPUs; see `convolve`.
    Channels may come in several arrays, which are convolved each by itself: CPUs are faster so than
    with the joined one, where each array has as many channels as there are features.
    """

    features: int  # channels of the output
    kernel: int  # side, odd
    dtype: Any = jnp.float32  # of the computation
    use_bias: bool = True
    kernel_init: Callable[..., jax.Array] = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, *parts: jax.Array) -> jax.Array:
        """`[n, height, width, channels of each]` to `[n, height, width, features]`."""
        channels = sum(part.shape[-1] for part in parts)
        shape = self.kernel, self.kernel, channels, self.features
        kernel = self.param('kernel', self.kernel_init, shape).astype(self.dtype)
        pairs = zip(parts, kernels_of(parts, kernel), strict=True)
        first, *others = [convolve((x.astype(self.dtype),), own) for x, own in pairs]
        x = sum(others, first)
        if not self.use_bias:
            return x
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        return x + bias.astype(self.dtype)


class Block(nn.Module):
    """Two 3x3 convolutions, each with normalisation, if there is to be any, and ReLU.

    A network that is applied several times normalises each time by other statistics: what it sees
    the first time, without a prediction of its own, is distributed otherwise than later.
    """

    features: int  # channels of the output
    norm: Norm | None = None  # makes a layer of normalisation of a name
    dtype: Any = jnp.float32  # of the computation
    remat: bool = False  # keeps no more than its input for the gradient

    @nn.compact
    def __call__(self, *parts: jax.Array, iteration: int = 0) -> jax.Array:
        """`[..., channels of each]` to `[..., features]`."""

        def layers(self: Self, *parts: jax.Array) -> jax.Array:
            return self._layers(parts, iteration)

        return (nn.remat(layers) if self.remat else layers)(self, *parts)

    def _layers(self, parts: Parts, iteration: int) -> jax.Array:
        for layer in range(2):
            # The normalisation has a bias of its own.
            bias = self.norm is None
            x = Conv(self.features, 3, self.dtype, use_bias=bias)(*parts)
            x = nn.relu(x) if self.norm is None else self.norm(name=f'norm_{layer}_{iteration}')(x)
            parts = (x,)
        return x


class UpConvolution(nn.Module):
    """The 2x2 convolution of stride 1/2 that doubles height and width.

    Its four output pixels do not overlap, so it is a matrix product for the upper two and one for
    the lower two, which are rows of the output as they are.
    """

    features: int  # channels of the output
    dtype: Any = jnp.float32  # of the computation

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[n, height, width, channels]` to `[n, 2 height, 2 width, features]`."""
        n, height, width, _ = x.shape
        rows = _Rows(self.features, self.dtype, name='Dense_0')(x)
        rows = [row.reshape(n, height, 1, 2 * width * self.features) for row in rows]
        x = jnp.concatenate(rows, axis=2).reshape(n, 2 * height, 2 * width, self.features)
        return x + self.param('bias', nn.initializers.zeros, (self.features,)).astype(self.dtype)


class _Rows(nn.Module):
    """Of each pixel the two that become of it in the upper row, and the two in the lower row."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        shape = x.shape[-1], 4 * self.features
        kernel = self.param('kernel', nn.initializers.he_normal(), shape).astype(self.dtype)
        x = x.astype(self.dtype)
        return [convolve((x,), half[None, None]) for half in jnp.split(kernel, 2, axis=1)]


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
