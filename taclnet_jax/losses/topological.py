"""The topological loss (Hu et al. 2019): persistence diagrams against the truth's."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from taclnet_jax.losses.pixel import labelled_mean
from taclnet_jax.topology import persistence_diagram, persistence_pairs


def topological_loss(
    prob: jax.Array,
    membrane: jax.Array,
    valid: jax.Array,
    *,
    patch: int = 64,
    min_persistence: float = 0.03,
    border: str = 'membrane',
    backend: str = 'gudhi',
    axis_name: str | None = None,
) -> jax.Array:
    """How far the loops of P are from the true ones, patch by patch (Hu et al. 2019).

    In each patch the most persistent loops, as many as there truly are, are to become perfect
    membranes around perfect cells, and all others are to vanish; see `matching_cost`. Only the
    pixels at which loops are born and die have a gradient.

    A section is cut into the fewest patches of one size, up to `patch` x `patch`, that cover it,
    with overlaps if need be. Pixels without a label count as membrane in P and in the truth, like
    what lies beyond a patch.

    Args:
        prob: probabilities of membrane in [0, 1], `[..., height, width]`.
        membrane: the share of each pixel that is membrane, the same shape; from 1/2 on it is.
        valid: not 0 where there is a label, the same shape.
        patch: side of the patches at most, in pixels. The authors' programs take 65 and 100.
        min_persistence: superfluous loops of no more persistence are let be, as the authors do.
        border, backend: 'membrane' or 'open', 'gudhi' or 'xla'; see `persistence_pairs`.
        axis_name: of the devices that have some of the sections each, where there are several.

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
    true = _patches(jnp.where(labelled, membrane >= 0.5, True), patch)
    counts = jnp.any(_patches(labelled, patch), axis=(-2, -1))

    diagram, mask = persistence_diagram(predicted, border=border, backend=backend)
    loops = count_loops(true, border=border, backend=backend)
    costs = matching_cost(diagram, mask, loops, min_persistence=min_persistence)
    return labelled_mean(costs, counts.astype(costs.dtype), axis_name)


def count_loops(binary: jax.Array, **options: Any) -> jax.Array:
    """The number of loops of binary images `[..., H, W]`, int32 `[...]`."""
    # How many there are is told whether they fit or not.
    pairs = persistence_pairs((binary != 0).astype(jnp.float32), max_pairs=1, **options)
    return jnp.sum(pairs.mask, axis=-1, dtype=jnp.int32) + pairs.dropped


def matching_cost(
    diagram: Any, mask: Any, features: Any, *, min_persistence: float = 0.0
) -> jax.Array:
    """Sum of the squared distances that a diagram's points are from where they ought to be.

    A binary image has all its features at birth 1 and death 0, so a diagram is matched with it by
    persistence alone: the most persistent features are the ones that ought to be there.

    The `features` most persistent points belong at (1, 0): `(birth - 1)^2 + death^2`. The others
    belong on the diagonal, whose nearest point is half their persistence away in birth and death:
    `(birth - death)^2 / 2`. A diagram of fewer points than `features` costs nothing for those that
    it has not: there is no pixel that could make one.

    Hu et al. 2019, "Topology-preserving deep image segmentation", define the loss as the sum of
    these distances under an optimal matching and match by persistence in their code, as is done
    here: optimal for sums of absolute differences, and not always for squares. Their code moves the
    points that belong on the diagonal by sqrt(2) to 2 times the gradient that follows from the
    definition, and leaves points of a persistence of up to 0.03; the distances here are those of
    the definition.

    Args:
        diagram: births and deaths in superlevel sets, `[..., K, 2]`, most persistent first, as
            `persistence_diagram` returns them.
        mask: which of the K places hold a point, bool `[..., K]`.
        features: how many points the true diagram has, all at (1, 0), integers `[...]`.
        min_persistence: points that belong on the diagonal cost nothing if their persistence is not
            above this.

    Returns:
        `[...]`, with gradients to `diagram`.
    """
    birth, death = diagram[..., 0], diagram[..., 1]
    kept = jnp.arange(diagram.shape[-2]) < jnp.asarray(features)[..., None]
    persistence = birth - death
    to_corner = (birth - 1) ** 2 + death**2
    to_diagonal = jnp.where(persistence > min_persistence, persistence**2 / 2, 0)
    return jnp.sum(jnp.where(mask, jnp.where(kept, to_corner, to_diagonal), 0), axis=-1)


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
