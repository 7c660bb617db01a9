"""Losses of membrane probabilities, and how attention enters them."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from taclnet_jax.topology import persistence_diagram
from taclnet_jax.topology.matching import count_features, matching_cost

# Keeps the logarithm finite where a probability is exactly 0 or 1; 1 - 1e-7 is still below 1.
_EPSILON = 1e-7

# From P, the membrane and what is labelled to a scalar.
Loss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

ATTENTION_FORMS = ('refined', 'both', 'weighted', 'straight_through')


def cross_entropy(prob: jax.Array, membrane: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean binary cross-entropy in nats over the labelled pixels; 0 where there are none.

    Args:
        prob: probabilities of membrane in [0, 1], any shape.
        membrane: 1 where there is membrane, 0 elsewhere, the same shape.
        valid: 1 where there is a label, 0 elsewhere, the same shape. Other numbers are weights.
    """
    prob = jnp.clip(prob, _EPSILON, 1 - _EPSILON)
    membrane, valid = membrane.astype(prob.dtype), valid.astype(prob.dtype)
    nats = -(membrane * jnp.log(prob) + (1 - membrane) * jnp.log1p(-prob))
    return jnp.sum(valid * nats) / jnp.maximum(jnp.sum(valid), 1)


def cross_entropy_dice(prob: jax.Array, membrane: jax.Array, valid: jax.Array) -> jax.Array:
    """`cross_entropy` plus the soft Dice loss of the membrane (Milletari et al. 2016)."""
    membrane, valid = membrane.astype(prob.dtype), valid.astype(prob.dtype)
    # One is added on both sides so that a crop without membrane has a gradient.
    overlap, total = jnp.sum(valid * prob * membrane), jnp.sum(valid * (prob + membrane))
    return cross_entropy(prob, membrane, valid) + 1 - (2 * overlap + 1) / (total + 1)


LOSSES: dict[str, Loss] = {
    'cross_entropy': cross_entropy,
    'cross_entropy_dice': cross_entropy_dice,
}


def topological_loss(
    prob: jax.Array,
    membrane: jax.Array,
    valid: jax.Array,
    *,
    patch: int = 64,
    min_persistence: float = 0.03,
    border: str = 'membrane',
    backend: str = 'gudhi',
) -> jax.Array:
    """How far the loops of P are from the true ones, patch by patch (Hu et al. 2019).

    In each patch the most persistent loops, as many as there truly are, are to become perfect
    membranes around perfect cells, and all others are to vanish; see `matching_cost`. Only the
    pixels at which loops are born and die have a gradient.

    A section is cut into the fewest patches that cover it, of one size, up to `patch` x `patch`;
    where its size is no multiple of theirs, they overlap. Pixels without a label count as membrane
    in P and in the truth, like what lies beyond a patch.

    Args:
        prob: probabilities of membrane in [0, 1], `[..., height, width]`.
        membrane: 1 where there is membrane, 0 elsewhere, the same shape.
        valid: not 0 where there is a label, the same shape.
        patch: side of the patches at most, in pixels. The authors' programs take 65 and 100.
        min_persistence: superfluous loops of no more persistence are let be, as the authors do.
        border: 'membrane' or 'open', see `persistence_pairs`.
        backend: 'gudhi' or 'xla', see `persistence_pairs`.

    Returns:
        The sum over the loops of a patch, averaged over the patches with a label; 0 if there are
        none. Beside the mean cross-entropy, a critical pixel weighs about as much as all the
        pixels of its patch.

    Raises:
        ValueError: an option is wrong.
        RuntimeError: the gudhi callback could hang (see `check_callbacks_can_run`).
    """
    if patch < 1:
        raise ValueError(f'patch must be positive, got {patch}.')
    labelled = valid != 0
    predicted = _patches(jnp.where(labelled, prob, 1), patch)
    true = _patches(jnp.where(labelled, membrane, 1), patch)
    counts = jnp.any(_patches(labelled, patch), axis=(-2, -1))

    diagram, mask = persistence_diagram(predicted, border=border, backend=backend)
    loops = count_features(true, border=border, backend=backend)
    costs = matching_cost(diagram, mask, loops, min_persistence=min_persistence)
    return jnp.sum(jnp.where(counts, costs, 0)) / jnp.maximum(jnp.sum(counts), 1)


def _patches(image: jax.Array, patch: int) -> jax.Array:
    """Cuts `[..., height, width]` into `[..., rows, columns, side, side]`."""
    for axis in (-2, -1):
        size = image.shape[axis]
        count = math.ceil(size / patch)
        side = math.ceil(size / count)
        starts = [round(i * (size - side) / max(count - 1, 1)) for i in range(count)]
        # Slices, not a gather, whose derivative would be a slow scatter.
        parts = [jax.lax.slice_in_dim(image, s, s + side, axis=axis) for s in starts]
        image = jnp.stack(parts, axis=-3)
    return image


def attention_loss(
    form: str,
    loss_fn: Loss,
    prob: jax.Array,
    refined: jax.Array,
    attention: jax.Array,
    membrane: jax.Array,
    valid: jax.Array,
    *,
    weight: float = 1.0,
) -> jax.Array:
    """The loss of a window's target with attention, in one of the forms of training.

    Args:
        form: 'refined': the loss of P_hat, as the poster has it.
            'both': the mean of the losses of P and P_hat: P has to be right without attention too.
            'weighted': the loss of P, with pixels weighted by 1 + `weight` * o: attention says
            where it matters, not what is there.
            'straight_through': the loss of P_hat, with the derivative of `straight_through`.
        loss_fn: one of `LOSSES`; for 'weighted' one that takes weights for `valid`.
        prob: P, `[..., height, width]`.
        refined: P_hat, likewise.
        attention: o in [0, 1], likewise; the weights are constants to the gradient.
        membrane: 1 where there is membrane, 0 elsewhere, likewise.
        valid: 1 where there is a label, 0 elsewhere, likewise.
        weight: of attention in 'weighted'.

    Raises:
        ValueError: there is no such form.
    """
    if form == 'refined':
        return loss_fn(refined, membrane, valid)
    if form == 'both':
        return (loss_fn(prob, membrane, valid) + loss_fn(refined, membrane, valid)) / 2
    if form == 'weighted':
        weights = 1 + weight * jax.lax.stop_gradient(attention)
        return loss_fn(prob, membrane, valid * weights)
    if form == 'straight_through':
        return loss_fn(straight_through(prob, refined), membrane, valid)
    raise ValueError(f'form must be one of {", ".join(ATTENTION_FORMS)}, got {form!r}.')


def straight_through(prob: jax.Array, refined: jax.Array) -> jax.Array:
    """P_hat with another derivative: its logit moves as P's does.

    P_hat = clip(alpha o + P, 0, 1) has no derivative where it is 1, however wrong that is. Where it
    is wrong and a little below 1, the derivative of the cross-entropy is huge, because that of P
    does not vanish with it: for a network trained on ISBI12 and alpha 1, ten of 657 000 pixels held
    80 % of the squared gradient. Here the derivative of the cross-entropy by the logit of P is
    P_hat - truth everywhere, as it is P - truth without attention.

    Args:
        prob: P in [0, 1].
        refined: P_hat, the same shape; a constant to the gradient.
    """
    logit = _logit(prob)
    return jax.nn.sigmoid(logit + jax.lax.stop_gradient(_logit(refined) - logit))


def _logit(prob: jax.Array) -> jax.Array:
    # Farther from 0 and 1 than cross_entropy's own limit, which has no derivative.
    prob = jnp.clip(prob, 10 * _EPSILON, 1 - 10 * _EPSILON)
    return jnp.log(prob) - jnp.log1p(-prob)
