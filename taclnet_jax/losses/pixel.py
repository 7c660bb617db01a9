"""Losses of membrane probabilities, pixel by pixel."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# Keeps the logarithm finite where a probability is exactly 0 or 1; 1 - 1e-7 is still below 1.
EPSILON = 1e-7

# From P, the membrane and what is labelled to a scalar.
Loss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def cross_entropy(prob: jax.Array, membrane: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean binary cross-entropy in nats over the labelled pixels; 0 where there are none.

    Args:
        prob: probabilities of membrane in [0, 1], any shape.
        membrane: the share of each pixel that is membrane, in [0, 1], the same shape.
        valid: 1 where there is a label, 0 elsewhere, the same shape. Other numbers are weights.
    """
    prob = jnp.clip(prob, EPSILON, 1 - EPSILON)
    membrane, valid = membrane.astype(prob.dtype), valid.astype(prob.dtype)
    nats = -(membrane * jnp.log(prob) + (1 - membrane) * jnp.log1p(-prob))
    return jnp.sum(valid * nats) / jnp.maximum(jnp.sum(valid), 1)


def cross_entropy_dice(prob: jax.Array, membrane: jax.Array, valid: jax.Array) -> jax.Array:
    """`cross_entropy` plus the soft Dice loss of the membrane (Milletari et al. 2016)."""
    membrane, valid = membrane.astype(prob.dtype), valid.astype(prob.dtype)
    # One is added on both sides so that a crop without membrane has a gradient.
    overlap, total = jnp.sum(valid * prob * membrane), jnp.sum(valid * (prob + membrane))
    return cross_entropy(prob, membrane, valid) + 1 - (2 * overlap + 1) / (total + 1)


LOSSES: dict[str, Loss] = {'cross_entropy': cross_entropy, 'cross_entropy_dice': cross_entropy_dice}
