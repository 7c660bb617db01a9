"""Edges between the basins of an image: which of them matter, and a list of these.

An edge that is the lowest of a ring of edges joins nothing that the rest of the ring has not joined
before, and a spanning forest of the highest edges does without it. Along the border of two basins
that leaves few more than its highest places.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# The smallest rings, within four pixels: edges by the neighbour (to the right, below, and on
# the two diagonals), and the row and the column of the pixel that has it. In each by neighbours.
_TOP, _BOTTOM, _LEFT, _RIGHT = (0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, 1)
_FALLING, _RISING = (2, 0, 0), (3, 0, 1)
_SQUARE = ((_TOP, _BOTTOM, _LEFT, _RIGHT),)
_TRIANGLES = (
    (_TOP, _RIGHT, _FALLING),
    (_BOTTOM, _LEFT, _FALLING),
    (_TOP, _LEFT, _RISING),
    (_BOTTOM, _RIGHT, _RISING),
)
WORD = 32
"""Bits."""


def lowest_of_rings(height: jax.Array, tie: jax.Array) -> jax.Array:
    """Which edges are the lowest of a ring, `[neighbours, images, H, W]`.

    Args:
        height: of each edge to straight neighbours or, with diagonal ones, to all, likewise; inside
            of a component higher than all others.
        tie: what is compared where heights are equal; where that is, too, the neighbour.
    """
    rings = _SQUARE if height.shape[0] == 2 else _TRIANGLES
    rows, columns = (max(x - 1, 0) for x in height.shape[-2:])
    found = [jnp.zeros(height.shape[1:], bool)] * height.shape[0]
    for ring in rings:
        lowest: Any = None
        for i, (neighbour, y, x) in enumerate(ring):
            here = np.s_[neighbour, :, y : y + rows, x : x + columns]
            edge = height[here], tie[here], jnp.full(height[here].shape, i)
            if lowest is None:
                lowest = edge
                continue
            lower = (edge[0] < lowest[0]) | ((edge[0] == lowest[0]) & (edge[1] < lowest[1]))
            lowest = [jnp.where(lower, *x) for x in zip(edge, lowest, strict=True)]
        for i, (neighbour, y, x) in enumerate(ring):
            margins = (0, 0), (y, height.shape[-2] - rows - y), (x, height.shape[-1] - columns - x)
            found[neighbour] |= jnp.pad(lowest[2] == i, margins)
    return jnp.stack(found)


def listed(
    chosen: jax.Array, values: Callable[[jax.Array], tuple[jax.Array, ...]], part: int, room: int
) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """Lists of the values at the chosen places, and how many there are.

    They have room for a part more than is asked for, as which they are filled. A bit is kept
    for each place: a running sum over all of them, and a write for each, would take longer than all
    else.

    Args:
        chosen: bool, as many as fill whole words.
        values: int32, of the places with such indices.
        part: how many places of the lists are filled together.
        room: for as many as are chosen at most.
    """
    bits = chosen.reshape(-1, WORD).astype(jnp.uint32)
    words = jnp.sum(bits << jnp.arange(WORD, dtype=jnp.uint32), axis=1, dtype=jnp.uint32)
    up_to = jnp.cumsum(lax.population_count(words).astype(jnp.int32))
    count = up_to[-1]

    def fill(i: jax.Array, lists: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        number = i * part + jnp.arange(part, dtype=jnp.int32)
        row = jnp.minimum(_not_above(up_to, number), words.shape[0] - 1)
        # Its bits that are still to be skipped, and the column of the one after them.
        word, skip = words[row], number - jnp.where(row > 0, up_to[row - 1], 0)
        column = jnp.zeros_like(number)
        for half in (16, 8, 4, 2, 1):
            lower = lax.population_count(word & np.uint32((1 << half) - 1)).astype(jnp.int32)
            above = skip >= lower
            skip = jnp.where(above, skip - lower, skip)
            column = jnp.where(above, column + half, column)
            word = jnp.where(above, word >> half, word)
        new = values(row * WORD + column)
        return tuple(
            lax.dynamic_update_slice(x, y, (i * part,)) for x, y in zip(lists, new, strict=True)
        )

    # In shard_map the loop's state has to depend on what differs between devices.
    empty = jnp.zeros(room + part, jnp.int32) + 0 * count
    lists = (empty,) * len(values(jnp.zeros(1, jnp.int32)))
    return lax.fori_loop(0, -(-count // part), fill, lists), count


def _not_above(ascending: jax.Array, number: jax.Array) -> jax.Array:
    """How many of the ascending are not above each number: `jnp.searchsorted`, for any batch."""
    size = jnp.asarray(ascending.shape[0], jnp.int32)  # it may be symbolic

    def look(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        known, step = state
        further = known + step
        is_so = (further <= size) & (ascending[further - 1] <= number)
        return jnp.where(is_so, further, known), step >> 1

    largest = jnp.int32(1) << (31 - lax.clz(size))
    # In shard_map the loop's state has to depend on what differs between devices.
    start = 0 * number + 0 * ascending[0]
    return lax.while_loop(lambda state: state[1] > 0, look, (start, largest))[0]
