"""A same-size convolution with many features whose kernel gradient is fast on CPUs too."""

import math

import jax
import jax.numpy as jnp
from jax import lax

_PATCH_BYTES = 4 << 20
"""Of one matrix product of the kernel's gradient: about what the cores' caches hold."""


def convolve_by_xla(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


@jax.custom_vjp
def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves `x` with `kernel`, zeros beyond the border, stride 1.

    XLA writes the kernel's gradient as a convolution whose window is the whole image. CPUs run that
    slower than the matrix products it is where there are as many features as in a ConvLSTM's gates
    (`python -m benchmarks.layers`). Accelerators keep XLA's.

    Args:
        x: `[batch, height, width, channels]`.
        kernel: `[side, side, channels, features]`, odd side.

    Returns:
        `[batch, height, width, features]`.
    """
    return convolve_by_xla(x, kernel)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve_by_xla(x, kernel), (x, kernel)


def _kernel_gradient(x: jax.Array, kernel: jax.Array, upstream: jax.Array) -> jax.Array:
    return jax.vjp(lambda k: convolve_by_xla(x, k), kernel)[1](upstream)[0]


def _kernel_gradient_by_products(x: jax.Array, kernel: jax.Array, upstream: jax.Array) -> jax.Array:
    side = kernel.shape[0]
    # Patches are taken of the array with fewer channels: they are side * side times its size.
    if x.shape[-1] <= upstream.shape[-1]:
        gradient = _products_with_patches(x, upstream, side)
    else:
        turned = _products_with_patches(upstream, x, side)
        gradient = jnp.swapaxes(turned[::-1, ::-1], 2, 3)
    return gradient.astype(kernel.dtype)


def _products_with_patches(a: jax.Array, b: jax.Array, side: int) -> jax.Array:
    """Sums a[p + offset, i] * b[p, j] over pixels p, `[side, side, channels of a, of b]`."""
    radius = side // 2
    count, height, width, channels = a.shape
    # Strips of rows, or some images, at a time: their patches stay in the cache.
    room = max(_PATCH_BYTES // (width * side * side * channels * a.dtype.itemsize), 1)
    strips = math.ceil(height / room)
    rows = math.ceil(height / strips)
    fitting = (n for n in range(2, count + 1) if count % n == 0 and n * height <= room)
    images = max(fitting, default=1)
    below = rows * strips - height
    a = jnp.pad(a, ((0, 0), (radius, radius + below), (radius, radius), (0, 0)))
    b = jnp.pad(b, ((0, 0), (0, below), (0, 0), (0, 0)))

    def product(index: jax.Array) -> jax.Array:
        corner = (index // strips * images, index % strips * rows, 0, 0)
        strip = lax.dynamic_slice(
            a, corner, (images, rows + 2 * radius, width + 2 * radius, channels)
        )
        patches = jnp.concatenate(
            [strip[:, i : i + rows, j : j + width] for i in range(side) for j in range(side)], -1
        )
        values = lax.dynamic_slice(b, corner, (images, rows, width, b.shape[-1]))
        return jnp.einsum('nhwp,nhwf->pf', patches, values, preferred_element_type=jnp.float32)

    products = lax.map(product, jnp.arange(count // images * strips))
    return products.sum(0).reshape(side, side, channels, b.shape[-1])


def _backward(
    residuals: tuple[jax.Array, jax.Array], upstream: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    (x_gradient,) = jax.vjp(lambda x: convolve_by_xla(x, kernel), x)[1](upstream)
    kernel_gradient = lax.platform_dependent(
        x, kernel, upstream, cpu=_kernel_gradient_by_products, default=_kernel_gradient
    )
    return x_gradient, kernel_gradient


convolve.defvjp(_forward, _backward)
