"""What the networks of this package are built of. All arrays are `[n, height, width, channels]`."""

from collections.abc import Callable
from functools import partial
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

Convolution = partial(nn.Conv, kernel_init=nn.initializers.he_normal())
"""A convolution, He-initialised (He et al. 2015); zeros beyond the border."""

Norm = Callable[..., nn.Module]


def batch_norm(train: bool, axis_name: str | None, dtype: Any) -> Norm:
    """Batch normalisation (Ioffe & Szegedy 2015), to be called where a layer of it is wanted.

    In training by mean and variance of the batch, of all devices; otherwise by their running means,
    which are the same for a tile of a section as for the whole.
    """
    return partial(
        nn.BatchNorm, use_running_average=not train, momentum=0.98, axis_name=axis_name, dtype=dtype
    )


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
    def __call__(self, x: jax.Array, iteration: int = 0) -> jax.Array:
        """`[..., channels]` to `[..., features]`."""

        def layers(self: Self, x: jax.Array) -> jax.Array:
            return self._layers(x, iteration)

        return (nn.remat(layers) if self.remat else layers)(self, x)

    def _layers(self, x: jax.Array, iteration: int) -> jax.Array:
        for layer in range(2):
            # The normalisation has a bias of its own.
            bias = self.norm is None
            x = Convolution(self.features, (3, 3), use_bias=bias, dtype=self.dtype)(x)
            if self.norm is not None:
                x = self.norm(name=f'norm_{layer}_{iteration}')(x)
            x = nn.relu(x)
        return x


class UpConvolution(nn.Module):
    """The 2x2 convolution of stride 1/2 that doubles height and width.

    Its four output pixels do not overlap, so it is one matrix product and a change of shape.
    """

    features: int  # channels of the output
    dtype: Any = jnp.float32  # of the computation

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
