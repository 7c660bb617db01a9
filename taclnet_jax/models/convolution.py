"""A same-size convolution whose kernel gradient is fast on CPUs too."""

import math
from itertools import accumulate

import jax
import jax.numpy as jnp
from jax import lax

Parts = tuple[jax.Array, ...]
"""The channels of an array, in several: `[batch, height, width, channels]` each."""

_CACHE_BYTES, _VECTOR = 1 << 25, 16
"""Beyond these bytes, or features, XLA's gradient of a kernel is slow on CPUs."""

_STRIP_BYTES = 1 << 19
"""Of what one part of the kernel's gradient is computed from: it stays in a core's cache."""


def _convolve_by_xla(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


def kernels_of(parts: Parts, kernel: jax.Array) -> list[jax.Array]:
    """What a kernel of all channels, `[side, side, channels, features]`, has for each part."""
    ends = list(accumulate(part.shape[-1] for part in parts))
    return jnp.split(kernel, ends[:-1], axis=2)


@jax.custom_vjp
def convolve(parts: Parts, kernel: jax.Array) -> jax.Array:
    """Convolves channels that come in several arrays, zeros beyond the border, stride 1.

    XLA writes the kernel's gradient as a convolution whose window is the whole image, of transposed
    arrays. Where these leave the cache, CPUs are two to four times as fast by one product after the
    other, of a strip of rows each (`python -m benchmarks.layers`); where they do not, still by a
    quarter, but for few features. Accelerators keep XLA's. Each part has a gradient of its own, so
    that none is computed for one that needs none.

    Args:
        parts: of one type, their channels in the order of the kernel's.
        kernel: `[side, side, channels of all, features]`, odd side.

    Returns:
        `[batch, height, width, features]`.
    """
    return _convolve_by_xla(jnp.concatenate(parts, axis=-1), kernel)


def _forward(parts: Parts, kernel: jax.Array) -> tuple[jax.Array, tuple[Parts, jax.Array]]:
    return convolve(parts, kernel), (parts, kernel)


def _kernel_gradient(x: jax.Array, kernel: jax.Array, upstream: jax.Array) -> jax.Array:
    return jax.vjp(lambda k: _convolve_by_xla(x, k), kernel)[1](upstream)[0]


def _kernel_gradient_by_strips(x: jax.Array, kernel: jax.Array, upstream: jax.Array) -> jax.Array:
    """Sums x[y + i, x + j, c] * upstream[y, x, f] over pixels, `[side, side, c, f]`.

    Of a strip of rows that is a product of what lies around each pixel, and `upstream`.
    """
    side, radius = kernel.shape[0], kernel.shape[0] // 2
    (count, height, width, channels), features = x.shape, upstream.shape[-1]
    # If possible strips are equal without padding.
    room = max(_STRIP_BYTES // (width * side**2 * channels * x.dtype.itemsize), 1)
    least = math.ceil(height / room)
    strips = next((n for n in range(least, 2 * least) if height % n == 0), least)
    rows = math.ceil(height / strips)
    below = rows * strips - height
    x = jnp.pad(x, ((0, 0), (radius, radius + below), (radius, radius), (0, 0)))
    upstream = jnp.pad(upstream, ((0, 0), (0, below), (0, 0), (0, 0)))

    def add(index: jax.Array, total: jax.Array) -> jax.Array:
        corner = (index // strips, index % strips * rows, 0, 0)
        strip = lax.dynamic_slice(x, corner, (1, rows + 2 * radius, width + 2 * radius, channels))
        around = [strip[0, i : i + rows, j : j + width] for i in range(side) for j in range(side)]
        patches = jnp.concatenate(around, axis=-1).reshape(rows * width, -1)
        values = lax.dynamic_slice(upstream, corner, (1, rows, width, features))
        values = values.reshape(rows * width, features)
        return total + jnp.matmul(patches.T, values, preferred_element_type=jnp.float32)

    zeros = jnp.zeros((side**2 * channels, features), jnp.float32)
    total = lax.fori_loop(0, count * strips, add, zeros)
    return total.reshape(kernel.shape).astype(kernel.dtype)


def _kernel_gradient_on_cpu(x: jax.Array, kernel: jax.Array, upstream: jax.Array) -> jax.Array:
    small = x.nbytes + upstream.nbytes <= _CACHE_BYTES and upstream.shape[-1] <= _VECTOR
    whole = small and kernel.shape[0] > 1
    return (_kernel_gradient if whole else _kernel_gradient_by_strips)(x, kernel, upstream)


def _backward(residuals: tuple[Parts, jax.Array], upstream: jax.Array) -> tuple[Parts, jax.Array]:
    parts, kernel = residuals
    gradients = []
    for part, own in zip(parts, kernels_of(parts, kernel), strict=True):
        gradients += jax.vjp(lambda x, own=own: _convolve_by_xla(x, own), part)[1](upstream)
    kernel_gradient = lax.platform_dependent(
        jnp.concatenate(parts, axis=-1),
        kernel,
        upstream,
        cpu=_kernel_gradient_on_cpu,
        default=_kernel_gradient,
    )
    return tuple(gradients), kernel_gradient


convolve.defvjp(_forward, _backward)
