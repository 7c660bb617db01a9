"""A same-size convolution whose kernel gradient is fast on CPUs too."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def _convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


@jax.custom_vjp
def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves `x` with `kernel`, zeros beyond the border, stride 1.

    XLA writes the kernel's gradient as a convolution whose window is the whole image, which CPUs
    run 6 times slower than the matrix product it is (`benchmarks/step.py`: with it a training
    step of the ConvLSTM takes a third of the time). Accelerators keep XLA's.

    Args:
        x: `[batch, height, width, channels]`.
        kernel: `[side, side, channels, features]`, odd side.

    Returns:
        `[batch, height, width, features]`.
    """
    return _convolve(x, kernel)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(x, kernel), (x, kernel)


def _kernel_gradient(x: jax.Array, kernel: jax.Array, upstream: jax.Array) -> jax.Array:
    return jax.vjp(lambda k: _convolve(x, k), kernel)[1](upstream)[0]


def _kernel_gradient_by_products(x: jax.Array, kernel: jax.Array, upstream: jax.Array) -> jax.Array:
    side, radius = kernel.shape[0], kernel.shape[0] // 2
    height, width = x.shape[1:3]

    def one_image(arrays: tuple[jax.Array, jax.Array]) -> jax.Array:
        image, gradient = arrays
        padded = jnp.pad(image, ((radius, radius), (radius, radius), (0, 0)))
        patches = jnp.concatenate(
            [padded[i : i + height, j : j + width] for i in range(side) for j in range(side)], -1
        )
        return jnp.einsum('hwp,hwf->pf', patches, gradient, preferred_element_type=jnp.float32)

    # One image at a time: its patches stay in the cache, those of a batch do not.
    return lax.map(one_image, (x, upstream)).sum(0).reshape(kernel.shape).astype(kernel.dtype)


def _backward(
    residuals: tuple[jax.Array, jax.Array], upstream: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    (x_gradient,) = jax.vjp(lambda x: _convolve(x, kernel), x)[1](upstream)
    kernel_gradient = lax.platform_dependent(
        x, kernel, upstream, cpu=_kernel_gradient_by_products, default=_kernel_gradient
    )
    return x_gradient, kernel_gradient


convolve.defvjp(_forward, _backward)
