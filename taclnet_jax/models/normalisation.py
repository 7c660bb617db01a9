"""Batch normalisation whose gradient keeps its input and nothing else of its size."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

_EPSILON = 1e-5
_MOMENTUM = 0.98

_Normalised = tuple[jax.Array, jax.Array, jax.Array]
"""The output, and mean and variance of the channels of the input."""


class BatchNormReLU(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015), then ReLU.

    In training by mean and variance of the batch, of all devices; otherwise by their running means,
    which are the same for a tile of a section as for the whole. Parameters and statistics are those
    of `flax.linen.BatchNorm`. What differs is what training keeps for the gradient: derived step by
    step, x minus its mean, the normalised x and the sign of the ReLU are arrays as large as x each.
    """

    train: bool
    axis_name: str | None = None  # of the devices that share a batch in training
    dtype: Any = jnp.float32  # of the output; statistics are float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[n, height, width, channels]` to the same."""
        channels = x.shape[-1]
        scale = self.param('scale', nn.initializers.ones, (channels,))
        bias = self.param('bias', nn.initializers.zeros, (channels,))
        mean = self.variable('batch_stats', 'mean', jnp.zeros, channels)
        var = self.variable('batch_stats', 'var', jnp.ones, channels)
        if not self.train:
            return _affine_relu(x, *_affine(mean.value, var.value, scale, bias), self.dtype)
        axis_name = None if self.is_initializing() else self.axis_name
        y, *batch = normalise_relu(x, scale, bias, axis_name, self.dtype)
        if not self.is_initializing():
            for running, value in zip((mean, var), batch, strict=True):
                running.value = _MOMENTUM * running.value + (1 - _MOMENTUM) * value
        return y


def _affine(
    mean: jax.Array, var: jax.Array, scale: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array]:
    factor = scale * lax.rsqrt(var + _EPSILON)
    return factor, bias - mean * factor


def _affine_relu(x: jax.Array, factor: jax.Array, offset: jax.Array, dtype: Any) -> jax.Array:
    return nn.relu(x.astype(jnp.float32) * factor + offset).astype(dtype)


def _means(x: jax.Array, axis_name: str | None) -> jax.Array:
    """Of each channel, over the pixels of all devices, in float32."""
    means = jnp.mean(x, (0, 1, 2), dtype=jnp.float32)
    return means if axis_name is None else lax.pmean(means, axis_name)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalise_relu(
    x: jax.Array, scale: jax.Array, bias: jax.Array, axis_name: str | None, dtype: Any
) -> _Normalised:
    """ReLU of the batch-normalised x, and mean and variance of its channels.

    The statistics have no gradient.
    """
    return _forward(x, scale, bias, axis_name, dtype)[0]


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, axis_name: str | None, dtype: Any
) -> tuple[_Normalised, tuple[jax.Array, ...]]:
    mean = _means(x, axis_name)
    square = _means(lax.square(x.astype(jnp.float32)), axis_name)
    var = jnp.maximum(square - mean**2, 0)
    y = _affine_relu(x, *_affine(mean, var, scale, bias), dtype)
    return (y, mean, var), (x, scale, bias, mean, var)


def _backward(
    axis_name: str | None, dtype: Any, kept: tuple[jax.Array, ...], upstream: _Normalised
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, bias, mean, var = kept
    factor, offset = _affine(mean, var, scale, bias)
    wide = x.astype(jnp.float32)
    passed = jnp.where(wide * factor + offset > 0, upstream[0].astype(jnp.float32), 0)
    own = jnp.sum(passed, (0, 1, 2)), jnp.sum(passed * wide, (0, 1, 2))
    # With x' = (x - mean) / deviation: dx = factor * (g - mean(g) - x' * mean(g * x')).
    pixels = x.size // x.shape[-1]
    both = jnp.stack(own) / pixels
    g, gx = both if axis_name is None else lax.pmean(both, axis_name)
    slope = factor * (gx - mean * g) / (var + _EPSILON)
    dx = factor * passed - slope * wide + (slope * mean - factor * g)
    d_scale = (own[1] - mean * own[0]) * lax.rsqrt(var + _EPSILON)
    return dx.astype(x.dtype), d_scale, own[0]


normalise_relu.defvjp(_forward, _backward)
