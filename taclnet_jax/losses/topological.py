"""The topological loss (Hu et al. 2019): persistence diagrams against the truth's."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from taclnet_jax.topology import persistence_diagram
from taclnet_jax.topology.matching import count_features, matching_cost


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
