"""Attention: linear time against the dense softmax, its growth with N, and all of STA.

    python -m benchmarks.attention
    python -m benchmarks.attention --quick

1. `topological_attention` against `dense_attention` in float32, time and error against float64.
2. Forward and gradient from 256 x 256 to 2048 x 2048: time, and XLA's own account of the memory.
3. `sta_attention` of a training batch, 10 x 3 x 156 x 156, in parts: what a training step pays.

All ratios are of one run, the fastest of several calls each. The dense form takes up to 5 GB.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.topology import best_time, likelihood
from taclnet_jax.attention import dense_attention, sta_attention, topological_attention
from taclnet_jax.topology import critical_map, critical_points


def inputs(size: int, slices: int = 3) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Query, keys and values of a window, `[slices, size, size]`; 2 points in 1000 pixels."""
    rng = np.random.default_rng(0)
    values = jnp.asarray(rng.random((size, size)), jnp.float32)
    spots = rng.random((slices, size, size)) < 0.002
    x = np.arange(-2, 3)
    kernel = np.exp(-0.5 * (x[:, None] ** 2 + x**2))
    padded = np.pad(spots.astype(float), ((0, 0), (2, 2), (2, 2)))
    keys = sum(
        kernel[i, j] * padded[:, i : i + size, j : j + size] for i in range(5) for j in range(5)
    )
    keys = jnp.asarray(keys / keys.max(axis=(1, 2), keepdims=True), jnp.float32)
    return keys[slices // 2], keys, values


def float64_attention(query: Any, keys: Any, values: Any) -> np.ndarray:
    """The dense softmax in float64, a row at a time for each value that the query takes."""
    a = np.asarray(query, np.float64).ravel()
    b = np.asarray(keys, np.float64).sum(0).ravel()
    v = np.asarray(values, np.float64).ravel()
    different, where = np.unique(a, return_inverse=True)
    o = np.empty(len(different))
    for i, score in enumerate(different):
        weights = np.exp(score * b)
        o[i] = weights @ v / weights.sum()
    return o[where].reshape(values.shape)


def against_dense(sizes: tuple[int, ...], seconds: float) -> None:
    print('1. Linear time against the dense softmax, l = 3, float32')
    print(
        f'{"image":>12} {"dense ms":>10} {"linear ms":>10} {"ratio":>7} '
        f'{"errors against float64":>24}'
    )
    linear, dense = jax.jit(topological_attention), jax.jit(dense_attention)
    for size in sizes:
        args = inputs(size)
        exact = float64_attention(*args)
        slow = best_time(lambda a=args: dense(*a).block_until_ready(), seconds)
        fast = best_time(lambda a=args: linear(*a).block_until_ready(), seconds)
        errors = [float(np.abs(np.asarray(f(*args)) - exact).max()) for f in (dense, linear)]
        print(
            f'{f"{size}x{size}":>12} {1e3 * slow:10.2f} {1e3 * fast:10.3f} {slow / fast:7.0f}'
            f'      {errors[0]:.1e} {errors[1]:.1e}',
            flush=True,
        )


def growth(sizes: tuple[int, ...], seconds: float) -> None:
    print('\n2. Growth with N: forward and the gradient to the values, l = 3, float32')
    print(f'{"image":>12} {"forward ms":>11} {"both ms":>9} {"ns/pixel":>9} {"bytes/pixel":>12}')
    forward = jax.jit(topological_attention)

    def loss(values: jax.Array, query: jax.Array, keys: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(topological_attention(query, keys, values)))

    gradient = jax.jit(jax.value_and_grad(loss))
    for size in sizes:
        query, keys, values = inputs(size)
        memory = gradient.lower(values, query, keys).compile().memory_analysis()
        once = best_time(lambda a=(query, keys, values): forward(*a).block_until_ready(), seconds)
        both = best_time(
            lambda a=(values, query, keys): jax.block_until_ready(gradient(*a)), seconds
        )
        print(
            f'{f"{size}x{size}":>12} {1e3 * once:11.2f} {1e3 * both:9.2f} '
            f'{1e9 * both / size**2:9.1f} {memory.temp_size_in_bytes / size**2:12.1f}',
            flush=True,
        )


def whole(batch: int, seconds: float) -> None:
    print(f'\n3. sta_attention of {batch} x 3 x 156 x 156 and its parts, milliseconds')
    prob = jnp.asarray(np.tile(likelihood(156), (batch, 3, 1, 1)))
    weights = jax.random.uniform(jax.random.key(0), (batch, 156, 156))

    for backend in ('gudhi', 'xla'):
        parts = {
            'critical points': lambda x, b=backend: critical_points(x, backend=b),
            'critical maps': lambda x, b=backend: critical_map(x, backend=b),
            'forward': lambda x, b=backend: sta_attention(x, backend=b),
            'forward and gradient': jax.value_and_grad(
                lambda x, b=backend: jnp.sum(weights * sta_attention(x, backend=b).refined)
            ),
        }
        for name, part in parts.items():
            call = jax.jit(part)
            t = best_time(lambda c=call: jax.block_until_ready(c(prob)), seconds)
            print(f'{backend:>8} {name:>22} {1e3 * t:9.2f}', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--quick', action='store_true', help='small images, few repetitions')
    args = parser.parse_args()
    if args.quick:
        against_dense((64,), 0.2)
        growth((64, 256), 0.2)
        whole(10, 0.5)
    else:
        against_dense((64, 100, 156), 2.0)
        growth((256, 512, 1024, 1250, 2048), 2.0)
        whole(10, 3.0)


if __name__ == '__main__':
    main()
