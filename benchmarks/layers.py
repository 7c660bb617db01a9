"""Layers of the networks against those of flax and XLA that they stand for: value and gradient.

    python -m benchmarks.layers

Forms of a layer take turns in one process; times are those of its CPU, or of waiting for an
accelerator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from taclnet_jax.models import layers
from taclnet_jax.models.normalisation import BatchNormReLU

REPEATS = 15


class FlaxNormReLU(nn.Module):
    """What `BatchNormReLU` is, derived step by step."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.relu(nn.BatchNorm(use_running_average=False)(x))


# Of the U-Net's first level, of ten windows of three sections of 156x156 pixels.
_LEVEL = (30, 160, 160, 16)
# Shape of the input, side of the kernel, features: the first two layers of the ConvLSTM, 16 and 8
# features of four gates, of ten windows; the U-Net's first level, and one that fits into a cache.
_CONVOLUTIONS = (
    ((10, 156, 156, 17), 3, 64),
    ((10, 156, 156, 24), 3, 32),
    (_LEVEL, 3, 16),
    ((30, 40, 40, 64), 3, 64),
    (_LEVEL, 1, 1),
)


def forms() -> Iterator[tuple[str, tuple[int, ...], str, nn.Module]]:
    """(layer, shape of its input, form, the layer)."""
    for shape, side, features in _CONVOLUTIONS:
        layer = f'{side}x{side} convolution to {features}'
        yield layer, shape, 'Conv', layers.Conv(features, side, use_bias=False)
        yield layer, shape, 'flax.linen', nn.Conv(features, (side, side), use_bias=False)
    # The U-Net's first level on the way up: what comes from below, and from the way down.
    both = (30, 160, 160, 32)
    yield '3x3 convolution to 16', both, 'of two arrays', _Halves(layers.Conv(16, 3), join=False)
    yield '3x3 convolution to 16', both, 'of one', _Halves(layers.Conv(16, 3), join=True)
    yield 'normalisation', _LEVEL, 'BatchNormReLU', BatchNormReLU(train=True)
    yield 'normalisation', _LEVEL, 'flax.linen', FlaxNormReLU()
    coarse = (30, 80, 80, 32)
    yield 'doubling', coarse, 'UpConvolution', layers.UpConvolution(16)
    yield 'doubling', coarse, 'flax.linen', nn.ConvTranspose(16, (2, 2), (2, 2))
    yield 'pooling', _LEVEL, 'max_pool', _MaxPool(layers.max_pool)
    yield 'pooling', _LEVEL, 'flax.linen', _MaxPool(lambda x: nn.max_pool(x, (2, 2), (2, 2)))


class _Halves(nn.Module):
    """A convolution of two arrays, each with half of the channels."""

    layer: layers.Conv
    join: bool  # as one array

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # Not the halves of an array, which XLA would see and not join.
        halves = [jnp.roll(half, 1, axis=1) for half in jnp.split(x, 2, axis=-1)]
        return self.layer(*([jnp.concatenate(halves, axis=-1)] if self.join else halves))


class _MaxPool(nn.Module):
    function: Callable[[jax.Array], jax.Array]

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.function(x)


def main() -> None:
    """Prints the table."""

    @partial(jax.jit, static_argnums=0)
    def step(layer: nn.Module, variables: Any, x: jax.Array, upstream: jax.Array) -> Any:
        def apply(params: Any, x: jax.Array) -> jax.Array:
            y, _ = layer.apply({**variables, 'params': params}, x, mutable=['batch_stats'])
            return y

        y, pull_back = jax.vjp(apply, variables.get('params', {}), x)
        return y, pull_back(upstream)

    steps = []
    for layer, shape, form, module in forms():
        x = jax.random.normal(jax.random.key(0), shape)
        y, variables = module.init_with_output(jax.random.key(1), x)
        upstream = jax.random.normal(jax.random.key(2), y.shape)
        steps.append(((layer, shape, form), partial(step, module, variables, x, upstream)))
    clock = time.process_time if jax.default_backend() == 'cpu' else time.perf_counter
    seconds = np.empty((REPEATS + 1, len(steps)))
    for repeat in range(REPEATS + 1):  # the first compiles
        for i, (_, run) in enumerate(steps):
            start = clock()
            jax.block_until_ready(run())
            seconds[repeat, i] = clock() - start
    print(f'\nOn {jax.devices()}')
    print('| layer | input | form | median ms | fastest ms |\n|---|---|---|---|---|')
    for ((layer, shape, form), _), values in zip(steps, 1e3 * seconds[1:].T, strict=True):
        print(f'| {layer} | {shape} | {form} | {np.median(values):.1f} | {values.min():.1f} |')


if __name__ == '__main__':
    main()
