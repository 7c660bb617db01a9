"""Networks that tests compile and initialise in little time."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def initialise(model: nn.Module, image: jax.Array) -> Any:
    """Parameters like those of `model.init`, from NumPy: compiling JAX's takes seconds a model."""
    rng = np.random.default_rng(0)

    def parameter(path: Any, leaf: Any) -> jax.Array:
        name = path[-1].key
        if name != 'kernel':
            return jnp.full(leaf.shape, float(name in ('scale', 'var')), leaf.dtype)
        deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return jnp.asarray(rng.normal(0, deviation, leaf.shape), leaf.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    return jax.tree_util.tree_map_with_path(parameter, shapes)
