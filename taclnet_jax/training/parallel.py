"""Everything that is particular to several devices: what is replicated, what is sharded, and how.

A training step is a plain function of one device's part; across devices it talks only through the
functions here, over the axis `AXIS`. What is on the devices has a leading axis over all of them, of
all processes: a process puts its own devices' entries there, and sees these alone.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from taclnet_jax import memory
from taclnet_jax.cores import compiler_options

AXIS = 'batch'
_WEEK_MS = 7 * 24 * 3600 * 1000
_waits = itertools.count()


def map_step(step: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one device's part, compiled for all devices; it donates its first argument."""
    return map_on_host(step) if jax.process_count() == 1 else map_over_hosts(step)


def map_on_host(step: Callable[..., Any]) -> Callable[..., Any]:
    """`map_step` with `jax.pmap`, for the devices of one process."""
    return _Compiled(jax.pmap(step, axis_name=AXIS, donate_argnums=0))


def map_over_hosts(step: Callable[..., Any]) -> Callable[..., Any]:
    """`map_step` for the devices of all processes.

    `jax.pmap` would take arrays of several processes only after a way over the host.
    """

    def part(*arguments: Any) -> Any:
        return jax.tree.map(lambda x: x[None], step(*jax.tree.map(lambda x: x[0], arguments)))

    spec = PartitionSpec(AXIS)
    # Collectives mean what they mean in pmap: the gradient of a sum is not divided again.
    mapped = jax.shard_map(part, mesh=_mesh(), in_specs=spec, out_specs=spec, check_vma=False)
    return _Compiled(jax.jit(mapped, donate_argnums=0))


class _Compiled:
    """A function of JAX, compiled at its first call, for arguments of those shapes alone.

    With our options of the compiler, which `jax.pmap` does not take. What compiling took goes back
    to the system.
    """

    def __init__(self, function: Any) -> None:
        self.__wrapped__, self.lower = function, function.lower
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        if self._compiled is None:
            options = compiler_options()
            self._compiled = self.lower(*arguments).compile(compiler_options=options)
            memory.give_back()
        return self._compiled(*arguments)


def replicate(tree: Any) -> Any:
    """Copies every array of the first process to all devices: `[...]` to `[devices, ...]`."""
    devices = jax.local_device_count()
    tree = multihost_utils.broadcast_one_to_all(tree)
    return jax.tree.map(lambda x: _put(np.stack([x] * devices)), tree)


def unreplicate(tree: Any) -> Any:
    """This process's first device's copy, as NumPy arrays."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0))[0], tree)


def shard(tree: Any) -> Any:
    """Splits the leading axis of this process's part: `[n, ...]` to `[devices, n/devices, ...]`."""
    devices = jax.local_device_count()
    return jax.tree.map(lambda x: _put(np.reshape(x, (devices, -1, *np.shape(x)[1:]))), tree)


def own_rows(table: np.ndarray) -> np.ndarray:
    """This process's part of a table, to `shard`; filled up so that it divides over all devices."""
    rows = -(-len(table) // jax.device_count()) * jax.local_device_count()
    own = np.arange(rows) + jax.process_index() * rows
    return table[np.minimum(own, len(table) - 1)]


def all_rows(table: jax.Array, length: int) -> np.ndarray:
    """Undoes `shard` and `own_rows`: the first `length` rows in their order, from all processes."""
    whole = multihost_utils.process_allgather(table, tiled=True)
    return whole.reshape(-1, *whole.shape[2:])[:length]


def is_first() -> bool:
    """Whether this is the process that tells and writes what all have."""
    return jax.process_index() == 0


def wait() -> None:
    """Until all processes are here, however long one of them takes.

    A collective would give up after half a minute where they meet for the first time, on CPUs.
    """
    together = ocp.multihost.get_barrier_sync_fn()
    together(key=f'taclnet_{next(_waits)}', timeout_ms=_WEEK_MS)


def of_each(row: np.ndarray) -> np.ndarray:
    """The rows of all processes, `[processes, ...]`, once all are here."""
    wait()
    return np.reshape(multihost_utils.process_allgather(row), (-1, *row.shape))


def of_any(value: int) -> int:
    """The largest value of a process, once all are here."""
    return int(np.max(multihost_utils.process_allgather(np.int32(value))))


def of_first(value: int) -> int:
    """The first process's value, once all are here."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def read_rows(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Inside a mapped step: rows `[n, ...]` of a table that is sharded over the devices.

    Args:
        table: this device's part `[rows/devices, ...]`.
        ids: row numbers in the whole table `[n]`, of this device's samples; `n` is the same on
            all devices.
    """
    local, owned = _local_rows(table, lax.all_gather(ids, AXIS, tiled=True))
    rows = table[jnp.where(owned, local, 0)]
    rows = jnp.where(owned.reshape(-1, *(1,) * (table.ndim - 1)), rows, 0)
    return lax.psum_scatter(rows, AXIS, scatter_dimension=0, tiled=True)


def write_rows(
    table: jax.Array, ids: jax.Array, rows: jax.Array, when: jax.Array | bool = True
) -> jax.Array:
    """Inside a mapped step: the table with the rows of all devices' `ids` replaced, if `when`."""
    ids, rows = lax.all_gather((ids, rows), AXIS, tiled=True)
    local, owned = _local_rows(table, ids)
    # Rows of other devices point past the end, where `drop` ignores them.
    return table.at[jnp.where(owned & when, local, len(table))].set(rows, mode='drop')


def _local_rows(table: jax.Array, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    local = ids - lax.axis_index(AXIS) * len(table)
    return local, (local >= 0) & (local < len(table))


def _mesh() -> Mesh:
    # In the order of processes, each of which has its rows of a table and its part of a batch.
    return Mesh(np.array(sorted(jax.devices(), key=lambda device: device.process_index)), (AXIS,))


def _put(x: np.ndarray) -> jax.Array:
    # The sharding that a mapped step returns; with another the next step would compile again.
    sharding = NamedSharding(_mesh(), PartitionSpec(AXIS))
    return jax.make_array_from_process_local_data(sharding, x)
