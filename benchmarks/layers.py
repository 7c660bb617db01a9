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

from taclnet_jax.models import convolution, layers

REPEATS = 15


def forms() -> Iterator[tuple[str, tuple[int, ...], str, Callable[[Any, jax.Array], Any], Any]]:
    """(layer, shape of its input, form, function of parameters and input, parameters)."""
    level = (12, 128, 128, 16)  # the U-Net's first, of four windows
    yield 'pooling', level, 'max_pool', lambda _, x: layers.max_pool(x), ()
    yield 'pooling', level, 'flax.linen', lambda _, x: nn.max_pool(x, (2, 2), (2, 2)), ()
    # The first two layers of the ConvLSTM, 16 and 8 features of four gates, of ten windows.
    for features, channels_in in (64, 17), (32, 24):
        shape, kernel = (10, 156, 156, channels_in), jnp.ones((3, 3, channels_in, features))
        for name, function in {
            'convolve': lambda x, kernel: convolution.convolve((x,), kernel),
            'XLA': convolution.convolve_by_xla,
        }.items():
            yield f'{features} gates', shape, name, lambda k, x, f=function: f(x, k), kernel


def main() -> None:
    """Prints the table."""

    @partial(jax.jit, static_argnums=0)
    def step(function: Any, params: Any, x: jax.Array, upstream: jax.Array) -> Any:
        y, pull_back = jax.vjp(function, params, x)
        return y, pull_back(upstream)

    steps = []
    for layer, shape, form, function, params in forms():
        x = jax.random.normal(jax.random.key(0), shape)
        upstream = jax.random.normal(jax.random.key(1), jax.eval_shape(function, params, x).shape)
        steps.append(((layer, shape, form), partial(step, function, params, x, upstream)))
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
