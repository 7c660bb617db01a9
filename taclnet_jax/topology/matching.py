"""How far the diagrams of images are from those of binary images, as Hu et al. (2019) match them.

A binary image has all its features at birth 1 and death 0, so a diagram is matched with it by
persistence alone: the most persistent features are the ones that ought to be there.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from taclnet_jax.topology.persistence import persistence_pairs


def count_features(binary: Any, **options: Any) -> jax.Array:
    """The number of features of binary images, int32 `[...]`: all have birth 1 and death 0.

    Args:
        binary: `[..., H, W]`, what is not 0 is in the set.
        **options: of `persistence_pairs`, all but `max_pairs`; by default loops are counted, those
            that the border closes too.
    """
    image = (jnp.asarray(binary) != 0).astype(jnp.float32)
    # How many there are is told whether they fit or not.
    pairs = persistence_pairs(image, max_pairs=1, **options)
    return jnp.sum(pairs.mask, axis=-1, dtype=jnp.int32) + pairs.dropped


def matching_cost(
    diagram: Any, mask: Any, features: Any, *, min_persistence: float = 0.0
) -> jax.Array:
    """Sum of the squared distances that a diagram's points are from where they ought to be.

    The `features` most persistent points belong at (1, 0): `(birth - 1)^2 + death^2`. The others
    belong on the diagonal, whose nearest point is half their persistence away in birth and death:
    `(birth - death)^2 / 2`. A diagram of fewer points than `features` costs nothing for those that
    it has not: there is no pixel that could make one.

    Hu et al. 2019, "Topology-preserving deep image segmentation", define the loss as the sum of
    these distances under an optimal matching and match by persistence in their code, which is what
    is done here. That is optimal if distances are sums of absolute differences (1-Wasserstein). For
    their squares a point of somewhat less persistence can be the better match, if its birth and
    death lie more evenly around 1/2. Their code moves the points that belong on the diagonal by
    sqrt(2) to 2 times the gradient that follows from the definition, and leaves points of a
    persistence of up to 0.03 there; the distances here are those of the definition.

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
