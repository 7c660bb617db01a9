"""Losses of membrane probabilities, pixel by pixel."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

# Keeps the logarithm finite where a probability is exactly 0 or 1; in float32 1 - 1e-7 is below 1.
EPSILON = 1e-7
# Of `membrane_probability`. Inside of EPSILON and 1 - EPSILON, beyond which losses are flat.
_NEAREST = 1e-6

# From P, the membrane and what is labelled to a scalar; those of `LOSSES` take `axis_name`, too.
Loss = Callable[..., jax.Array]


@jax.custom_jvp
def membrane_probability(logits: jax.Array) -> jax.Array:
    """P in [1e-6, 1 - 1e-6], of logits of any shape; to 1e-6 their sigmoid.

    For training: its derivative is P (1 - P) everywhere, so that with the cross-entropy a logit
    moves by P - truth however large it is. A float32 sigmoid is 1 beyond 17, without a derivative;
    networks whose first updates drove all logits past that learned nothing from then on.
    """
    return jnp.clip(jax.nn.sigmoid(logits), _NEAREST, 1 - _NEAREST)


@membrane_probability.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    prob = membrane_probability(*primals)
    return prob, prob * (1 - prob) * tangents[0]


def labelled_mean(values: jax.Array, valid: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Mean of values weighted by `valid`, on all devices of the axis together; 0 without weight."""
    total = _sum(valid, axis_name)
    return _sum(valid * values, axis_name) / jnp.where(total > 0, total, 1)


def cross_entropy(
    prob: jax.Array, membrane: jax.Array, valid: jax.Array, axis_name: str | None = None
) -> jax.Array:
    """Mean binary cross-entropy in nats over the labelled pixels; 0 where there are none.

    Args:
        prob: probabilities of membrane in [0, 1], any shape.
        membrane: the share of each pixel that is membrane, in [0, 1], the same shape.
        valid: 1 where there is a label, 0 elsewhere, the same shape. Other numbers are weights.
        axis_name: of the devices that have a part of the pixels each, where there are several.
    """
    prob = prob.astype(jnp.promote_types(prob.dtype, jnp.float32))  # where it is of fewer bits
    prob = jnp.clip(prob, EPSILON, 1 - EPSILON)
    membrane, valid = membrane.astype(prob.dtype), valid.astype(prob.dtype)
    nats = -(membrane * jnp.log(prob) + (1 - membrane) * jnp.log1p(-prob))
    return labelled_mean(nats, valid, axis_name)


def cross_entropy_dice(
    prob: jax.Array, membrane: jax.Array, valid: jax.Array, axis_name: str | None = None
) -> jax.Array:
    """`cross_entropy` plus the soft Dice loss of the membrane (Milletari et al. 2016)."""
    membrane, valid = membrane.astype(prob.dtype), valid.astype(prob.dtype)
    # One is added on both sides so that a crop without membrane has a gradient.
    overlap = _sum(valid * prob * membrane, axis_name)
    total = _sum(valid * (prob + membrane), axis_name)
    entropy = cross_entropy(prob, membrane, valid, axis_name)
    return entropy + 1 - (2 * overlap + 1) / (total + 1)


def _sum(x: jax.Array, axis_name: str | None) -> jax.Array:
    return jnp.sum(x) if axis_name is None else lax.psum(jnp.sum(x), axis_name)


LOSSES: dict[str, Loss] = {'cross_entropy': cross_entropy, 'cross_entropy_dice': cross_entropy_dice}
