"""Critical points of a probability map, and the poster's critical map CP = Gaussian(PH(P))."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from taclnet_jax.topology import persistence

# The poster's Gaussian is 5x5.
_RADIUS = 2


def critical_points(
    prob: Any,
    *,
    min_persistence: float = 0.1,
    kind: str = 'birth',
    dimension: int = 1,
    border: str = 'membrane',
    filtration: str = 'superlevel',
    backend: str = 'gudhi',
) -> jax.Array:
    """Marks where lasting features are born or die: the poster's PH(P).

    With the defaults, each cell that membrane encloses is a loop, and its critical point is the
    weakest pixel of that membrane.

    Args:
        prob: images `[..., H, W]`; see `persistence_pairs` for this and the other arguments.
        min_persistence: features count if the difference between their values at birth and death,
            in float32, is above this.
        kind: 'birth', 'death' or 'both'.

    Returns:
        bool `[..., H, W]`, a constant to the gradient. Images with NaN have no critical points.

    Raises:
        ValueError: an argument is outside of what is listed here.
        RuntimeError: the callback could hang (see `check_callbacks_can_run`).

    Example:
        >>> import jax.numpy as jnp
        >>> prob = jnp.full((8, 8), 0.125).at[1:6, 1:6].set(0.875).at[2:5, 2:5].set(0.25)
        >>> prob = prob.at[3, 5].set(0.5)
        >>> jnp.argwhere(critical_points(prob)).tolist()
        [[3, 5]]
    """
    image = persistence.as_images(prob)
    options = persistence.check_options(dimension, border, filtration, backend)
    if kind not in ('birth', 'death', 'both'):
        raise ValueError(f"kind must be 'birth', 'death' or 'both', got {kind!r}.")
    if not min_persistence >= 0:
        raise ValueError(f'min_persistence must be at least 0, got {min_persistence}.')
    return persistence.backend_module(backend).points(
        image, min_persistence=float(min_persistence), kind=kind, **options
    )


def critical_map(prob: Any, *, sigma: float = 1.0, **options: Any) -> jax.Array:
    """The critical points under a 5x5 Gaussian, scaled to a maximum of 1: the poster's CP.

    Neighbouring points add up. At its edges the image goes on mirrored.

    Args:
        prob: images `[..., H, W]`.
        sigma: width of the Gaussian in pixels.
        **options: of `critical_points`.

    Returns:
        Maps `[..., H, W]` in [0, 1] of `prob`'s dtype, constants to the gradient. An image without
        critical points gives zeros.

    Raises:
        ValueError: as `critical_points`, or `sigma` is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> prob = jnp.full((8, 8), 0.125).at[1:6, 1:6].set(0.875).at[2:5, 2:5].set(0.25)
        >>> prob = prob.at[3, 5].set(0.5)
        >>> cp = critical_map(prob)
        >>> divmod(int(cp.argmax()), 8), float(cp.max())
        ((3, 5), 1.0)
    """
    if not sigma > 0:
        raise ValueError(f'sigma must be positive, got {sigma}.')
    points = critical_points(prob, **options)
    return _spread(points, sigma=float(sigma)).astype(jnp.asarray(prob).dtype)


@functools.partial(jax.jit, static_argnames='sigma')
def _spread(points: jax.Array, *, sigma: float) -> jax.Array:
    blurred = _blur(_blur(points.astype(jnp.float32), sigma, -1), sigma, -2)
    highest = jnp.max(blurred, axis=(-2, -1), keepdims=True)
    return blurred / jnp.where(highest > 0, highest, 1)


def _blur(image: jax.Array, sigma: float, axis: int) -> jax.Array:
    """One axis of the Gaussian. Its height does not matter: the map is scaled afterwards."""
    size = image.shape[axis]
    pad = [(0, 0)] * image.ndim
    pad[axis] = (_RADIUS, _RADIUS)
    padded = jnp.pad(image, pad, mode='symmetric')
    parts = [
        math.exp(-0.5 * (offset / sigma) ** 2)
        * jax.lax.slice_in_dim(padded, _RADIUS + offset, _RADIUS + offset + size, axis=axis)
        for offset in range(-_RADIUS, _RADIUS + 1)
    ]
    return functools.reduce(jnp.add, parts)
