"""Critical points of a probability map, and the poster's critical map CP = Gaussian(PH(P))."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from taclnet_jax.topology.persistence import BACKENDS, as_images, check_choice, check_options

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
    image = as_images(prob)
    options = check_options(dimension, border, filtration, backend)
    check_choice('kind', kind, ('birth', 'death', 'both'))
    if not min_persistence >= 0:
        raise ValueError(f'min_persistence must be at least 0, got {min_persistence}.')
    return BACKENDS[backend].points(
        image, min_persistence=float(min_persistence), kind=kind, **options
    )


def critical_map(prob: Any, *, sigma: float = 1.0, **options: Any) -> jax.Array:
    """The critical points under a 5x5 Gaussian of height 1, cut at 1: the poster's CP.

    `CP = min(1, sum over critical points c of exp(-|n - c|^2 / (2 sigma^2)))`, with the terms of
    points up to two rows and columns away. So a critical point is 1 wherever it lies, and no point
    changes the map beyond its own 5x5 pixels: a part of an image with the same critical points has
    the same map.

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
        >>> print(critical_map(prob)[3].round(2))
        [0.   0.   0.   0.14 0.61 1.   0.61 0.14]
    """
    if not sigma > 0:
        raise ValueError(f'sigma must be positive, got {sigma}.')
    cp: jax.Array = _spread(critical_points(prob, **options), sigma=float(sigma))
    return cp.astype(jnp.asarray(prob).dtype)


@functools.partial(jax.jit, static_argnames='sigma')
def _spread(points: jax.Array, *, sigma: float) -> jax.Array:
    cp = points.astype(jnp.float32)
    for axis in (-2, -1):
        pad = [(0, 0)] * cp.ndim
        pad[axis] = (_RADIUS, _RADIUS)
        padded, size = jnp.pad(cp, pad), cp.shape[axis]
        parts = [
            math.exp(-0.5 * ((start - _RADIUS) / sigma) ** 2)
            * jax.lax.slice_in_dim(padded, start, start + size, axis=axis)
            for start in range(2 * _RADIUS + 1)
        ]
        cp = functools.reduce(jnp.add, parts)
    return jnp.minimum(cp, 1)
