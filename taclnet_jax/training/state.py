"""What a training run carries from step to step, the ITA memory included."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from taclnet_jax.symmetry import inverse, symmetry
from taclnet_jax.training import parallel

NO_HISTORY = -1.0
"""Stands in the ITA memory where a sample has no attention yet; attention is never negative."""


class ITAMemory(struct.PyTreeNode):
    """The attention of every training sample, in its unaugmented frame, keyed by sample id.

    An epoch reads o_{t-1} from `previous` and writes o_t to `current`, so that each entry changes
    once an epoch however often its sample is drawn.
    """

    previous: Any  # o_{t-1}, `[samples, height, width]`, or `NO_HISTORY`
    current: Any  # o_t, likewise

    @classmethod
    def create(cls, samples: int, crop: tuple[int, int]) -> ITAMemory:
        """A memory without history, on the host."""
        empty = np.full((samples, *crop), NO_HISTORY, np.float32)
        return cls(previous=empty, current=empty)

    def begin_epoch(self) -> ITAMemory:
        """o_t becomes o_{t-1}."""
        # A copy: both fields are donated to the step, which one buffer cannot be twice.
        return self.replace(previous=jnp.copy(self.current))

    def read(
        self, sample_id: jax.Array, symmetries: jax.Array, beta: float
    ) -> tuple[jax.Array, jax.Array]:
        """History and its weight for a device's samples, inside a mapped step.

        Args:
            sample_id: `[batch]`.
            symmetries: `[batch]`, how each sample was augmented.
            beta: weight of a history.

        Returns:
            (history `[batch, height, width]` in the augmented frame, beta `[batch, 1, 1]`, which
            is 0 for samples without history).
        """
        stored = parallel.read_rows(self.previous, sample_id)
        known = stored[:, :1, :1] != NO_HISTORY
        history = jax.vmap(symmetry)(jnp.where(known, stored, 0), symmetries)
        return history, jnp.where(known, beta, 0.0)

    def write(
        self,
        sample_id: jax.Array,
        symmetries: jax.Array,
        attention: jax.Array,
        when: jax.Array | bool = True,
    ) -> ITAMemory:
        """The memory with a device's attention `[batch, height, width]` as o_t, where `when`."""
        attention = jax.vmap(symmetry)(attention, inverse(symmetries))
        return self.replace(current=parallel.write_rows(self.current, sample_id, attention, when))


class EpochLoss(struct.PyTreeNode):
    """The losses of an epoch so far, on the devices and in checkpoints as in the middle of it."""

    total: Any  # sum over its updates, float32
    updates: Any  # how many, int32
    skipped: Any  # steps whose loss or gradient was not finite, int32

    @classmethod
    def create(cls) -> EpochLoss:
        """Before the first step, on the host."""
        count = np.zeros((), np.int32)
        return cls(np.zeros((), np.float32), count, count)

    def add(self, loss: jax.Array, finite: jax.Array) -> EpochLoss:
        """With one more step; its loss counts where it is finite."""
        return EpochLoss(
            self.total + jnp.where(finite, loss, 0), self.updates + finite, self.skipped + ~finite
        )

    @property
    def mean(self) -> float:
        """Over the updates; NaN before the first."""
        return float(self.total) / int(self.updates) if self.updates else math.nan


class TrainState(struct.PyTreeNode):
    """The state of a run.

    Variables are the network's 'params', float32, which the optimizer changes, and 'batch_stats'
    where it normalises.
    """

    step: Any  # steps so far, int32
    variables: Any
    average: Any  # their moving average; None for runs without it
    opt_state: Any  # of the optimizer
    memory: ITAMemory | None  # None for runs without ITA
    losses: EpochLoss  # of the epoch that the state is in, or at the end of

    @property
    def final(self) -> Any:
        """The variables that are validated and used after training."""
        return self.variables if self.average is None else self.average

    def to_devices(self) -> TrainState:
        """Replicates parameters and optimizer, shards the ITA memory by sample."""
        memory = self.memory
        replicated = parallel.replicate(self.replace(memory=None))
        return replicated.replace(memory=parallel.shard(jax.tree.map(parallel.own_rows, memory)))

    def to_host(self, samples: int) -> TrainState:
        """Undoes `to_devices`; the result does not depend on the number of devices."""
        memory = jax.tree.map(lambda x: parallel.all_rows(x, samples), self.memory)
        return parallel.unreplicate(self.replace(memory=None)).replace(memory=memory)


def create_train_state(
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    slices: int,
    seed: int,
    average: bool,
    memory: ITAMemory | None,
) -> TrainState:
    """The state before the first step, on the host.

    Args:
        network, optimizer: what is initialised.
        slices: sections in a window.
        seed: of the parameters.
        average: whether the state holds a moving average of its variables.
        memory: of ITA; None for runs without it.
    """

    def create(key: jax.Array) -> TrainState:
        # The parameters depend on the number of slices, not on the size of the crop.
        variables = network.init(key, jnp.zeros((1, slices, 8, 8), jnp.float32))
        opt_state, step = optimizer.init(variables['params']), jnp.zeros((), jnp.int32)
        return TrainState(
            step,
            variables,
            variables if average else None,
            opt_state,
            memory=None,
            losses=EpochLoss.create(),
        )

    # As a whole: one by one, what makes arrays takes twice as long. It runs once, and optimizing it
    # on a CPU takes 13 of 19 s with the flagship.
    options = {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else None
    compiled = jax.jit(create, compiler_options=options)
    state = jax.tree.map(np.asarray, compiled(jax.random.key(seed)))
    return state.replace(memory=memory)
