"""Losses of membrane probabilities."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

# Keeps the logarithm finite where a probability is exactly 0 or 1; 1 - 1e-7 is still below 1.
_EPSILON = 1e-7


def cross_entropy(prob: jax.Array, membrane: jax.Array) -> jax.Array:
    """Mean binary cross-entropy in nats.

    Args:
        prob: probabilities of membrane in [0, 1], any shape.
        membrane: 1 where there is membrane, 0 elsewhere, the same shape.
    """
    prob = jnp.clip(prob, _EPSILON, 1 - _EPSILON)
    membrane = membrane.astype(prob.dtype)
    return -jnp.mean(membrane * jnp.log(prob) + (1 - membrane) * jnp.log1p(-prob))


def cross_entropy_dice(prob: jax.Array, membrane: jax.Array) -> jax.Array:
    """`cross_entropy` plus the soft Dice loss of the membrane (Milletari et al. 2016)."""
    membrane = membrane.astype(prob.dtype)
    # One is added on both sides so that a crop without membrane has a gradient.
    dice = (2 * jnp.sum(prob * membrane) + 1) / (jnp.sum(prob) + jnp.sum(membrane) + 1)
    return cross_entropy(prob, membrane) + 1 - dice


LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    'cross_entropy': cross_entropy,
    'cross_entropy_dice': cross_entropy_dice,
}
