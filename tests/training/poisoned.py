"""A step of a network of two numbers, and batches of which its loss or gradient is not finite."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from taclnet_jax.training import parallel
from taclnet_jax.training.state import EpochLoss, ITAMemory, TrainState
from taclnet_jax.training.step import Step, create_step

POISONS = ('loss', 'infinite loss', 'gradient', 'large gradient', 'statistics')


def batch(poison: str = '', sample: int = 0, devices: int = 1) -> dict[str, np.ndarray]:
    """A sample for each device; only the last one is poisoned."""
    poisoned = np.zeros((devices, len(POISONS)), np.float32)
    if poison:
        poisoned[-1, POISONS.index(poison)] = 1
    ids = np.arange(sample, sample + devices, dtype=np.int32)
    return {'poison': poisoned, 'sample_id': ids, 'symmetry': ids % 8}


def objective(
    params: Any, variables: Any, batch: Any, *, history: jax.Array, beta: Any
) -> tuple[jax.Array, Any]:
    w = params['w']
    at_loss, to_infinity, at_gradient, large, at_statistics = batch['poison'].sum(0)
    loss = jnp.sum((w - batch['sample_id'].mean()) ** 2)
    loss += jnp.where(at_loss > 0, jnp.nan, 0) + jnp.where(to_infinity > 0, jnp.inf, 0)
    # The derivative of a root is infinite at 0, and its value is not.
    loss += jnp.sqrt(1 - at_gradient + w[0] - jax.lax.stop_gradient(w[0]))
    loss += 1e25 * large * (w[0] - jax.lax.stop_gradient(w[0]))
    # As normalisation does, its statistics are those of all devices.
    at_statistics = jax.lax.pmean(at_statistics, parallel.AXIS)
    seen = variables['batch_stats']['mean'] + 1
    statistics = {'batch_stats': {'mean': jnp.where(at_statistics > 0, jnp.inf, seen)}}
    attention = jnp.full((len(batch['sample_id']), 2, 2), 0.5) + beta * history
    return loss, (w, attention, statistics)


def problem(samples: int = 4) -> tuple[Step, TrainState]:
    """The step, and the state before the first, on the host."""
    optimizer = optax.adamw(optax.linear_schedule(0.1, 0.2, 5))
    params = {'w': np.array([1.0, -2.0], np.float32)}
    variables = {'params': params, 'batch_stats': {'mean': np.float32(0)}}
    state = TrainState(
        np.int32(0),
        variables,
        variables,
        jax.tree.map(np.asarray, optimizer.init(params)),
        ITAMemory.create(samples, (2, 2)),
        EpochLoss.create(),
    )
    return create_step(objective, optimizer, average=0.5, beta=0.9), state
