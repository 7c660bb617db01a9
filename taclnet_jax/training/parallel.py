"""Everything that is particular to `jax.pmap`: what is replicated, what is sharded, and how.

A training step is a plain function of one device's part; across devices it talks only through the
functions here, over the axis `AXIS`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = 'batch'


def replicate(tree: Any) -> Any:
    """Copies every array to all local devices: `[...]` to `[devices, ...]`."""
    devices = jax.local_device_count()
    return jax.tree.map(lambda x: _put(np.stack([x] * devices)), tree)


def unreplicate(tree: Any) -> Any:
    """The first device's copy, as NumPy arrays."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0))[0], tree)


def shard(tree: Any) -> Any:
    """Splits the leading axis over the local devices: `[n, ...]` to `[devices, n/devices, ...]`.

    The leading axis is filled up with its last entry where it does not divide evenly.
    """
    devices = jax.local_device_count()

    def split(x: np.ndarray) -> jax.Array:
        x = np.asarray(x)
        missing = -len(x) % devices
        x = np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) if missing else x
        return _put(x.reshape(devices, -1, *x.shape[1:]))

    return jax.tree.map(split, tree)


def unshard(x: Any, length: int) -> np.ndarray:
    """Undoes `shard`: the first `length` entries in their order, as a NumPy array."""
    x = np.asarray(x)
    return x.reshape(-1, *x.shape[2:])[:length]


def read_rows(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Inside a pmapped step: rows `[n, ...]` of a table that is sharded over the devices.

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
    """Inside a pmapped step: the table with the rows of all devices' `ids` replaced, if `when`."""
    ids, rows = lax.all_gather((ids, rows), AXIS, tiled=True)
    local, owned = _local_rows(table, ids)
    # Rows of other devices point past the end, where `drop` ignores them.
    return table.at[jnp.where(owned & when, local, len(table))].set(rows, mode='drop')


def _local_rows(table: jax.Array, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    local = ids - lax.axis_index(AXIS) * len(table)
    return local, (local >= 0) & (local < len(table))


def _put(x: np.ndarray) -> jax.Array:
    # The sharding that a pmapped step returns; with another the next step would compile again.
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(x, NamedSharding(mesh, PartitionSpec(AXIS)))
