"""The eight symmetries of the square, for augmentation and for the ITA memory."""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def symmetry(x: Any, k: Any) -> Any:
    """Applies symmetry `k` to the last two axes of `x`.

    Args:
        x: array `[..., height, width]`, NumPy or JAX.
        k: 0 to 7. Bit 4 transposes, then bit 2 flips the height, then bit 1 flips the width. Below
            4 if it is traced and `x` is not square, which has those four symmetries alone.

    Returns:
        The transformed array; a NumPy array for NumPy input with an integer `k`.
    """
    if isinstance(k, int | np.integer):
        xp: ModuleType = jnp if isinstance(x, jax.Array) else np
        x = xp.swapaxes(x, -1, -2) if k & 4 else x
        x = xp.flip(x, -2) if k & 2 else x
        return xp.flip(x, -1) if k & 1 else x
    if x.shape[-1] == x.shape[-2]:
        x = jnp.where(k & 4, jnp.swapaxes(x, -1, -2), x)
    x = jnp.where(k & 2, jnp.flip(x, -2), x)
    return jnp.where(k & 1, jnp.flip(x, -1), x)


def inverse(k: Any) -> Any:
    """The symmetry that undoes `k` (0 to 7, integer or traced): transposing swaps the two flips."""
    swapped = (k & 4) | ((k & 1) << 1) | ((k & 2) >> 1)
    transposes = k >> 2
    return transposes * swapped + (1 - transposes) * k
