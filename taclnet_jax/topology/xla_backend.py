"""Persistence in pure XLA: no host and no callback, for accelerators, exports and many hosts.

By duality a loop is a component of the complement: it dies at the component's peak, the last of its
pixels to enter the filtration, and is born where the component meets an older one. Components
themselves are the same problem upside down. Both are solved in rounds, all components at once:
each looks for its highest way out and, if the component across is older, is absorbed there. That is
exact: whatever it brings along is connected above every edge that remains.

In the first round every pixel is a component, and goes to its oldest neighbour: that leaves the
basins of the peaks. After it only edges between basins matter, and of these none that is the lowest
of a ring of pixels: where it joins two components, the rest of the ring joined them before. The
others are put into a list, from which each round drops those inside of a component.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from taclnet_jax.topology.xla_edges import WORD, listed, lowest_of_rings

# Half of the neighbours; the others are their opposites.
_STRAIGHT = ((0, 1), (1, 0))
_DIAGONAL = ((1, 1), (1, -1))
# The list of edges is looked at in up to so many parts, of at least so many places; those without
# edges are not looked at. A part costs some calls (`python -m benchmarks.topology`).
_PARTS, _LEAST_PLACES = 512, 512
_LOWEST, _HIGHEST = np.iinfo(np.int32).min, np.iinfo(np.int32).max


@functools.partial(
    jax.jit, static_argnames=('dimension', 'border', 'superlevel', 'min_persistence', 'kind')
)
def points(prob: jax.Array, *, min_persistence: float, kind: str, **options: Any) -> jax.Array:
    """The critical points' boolean maps, shaped like `prob`, `[..., H, W]` float32."""
    birth, death, died, persistence = _merges(prob, **options)
    lasting = died & (persistence > jnp.float32(min_persistence))
    rows = jnp.arange(lasting.shape[0])[:, None]
    found = jnp.zeros(lasting.shape, bool)
    if kind != 'death':
        found = found.at[rows, birth].max(lasting)
    if kind != 'birth':
        found = found.at[rows, death].max(lasting)
    return found.reshape(prob.shape)


@functools.partial(jax.jit, static_argnames=('dimension', 'border', 'superlevel', 'max_pairs'))
def pairs(
    prob: jax.Array, *, max_pairs: int, **options: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Flat births and deaths `[..., max_pairs]`, most persistent first, and the count found."""
    leading = prob.shape[:-2]
    birth, death, died, persistence = _merges(prob, **options)
    # Pairs first, by descending persistence; births and deaths are 0 behind the last pair.
    last = jnp.where(died, -persistence, jnp.inf)
    births, deaths = (jnp.where(died, x, 0) for x in (birth, death))
    _, _, births, deaths = jax.lax.sort((~died, last, births, deaths), dimension=-1, num_keys=4)

    def fit(index: jax.Array) -> jax.Array:
        index = index[:, :max_pairs]
        index = jnp.pad(index, ((0, 0), (0, max_pairs - index.shape[-1])))
        return index.reshape(*leading, max_pairs)

    count = jnp.sum(died, axis=-1, dtype=jnp.int32).reshape(leading)
    return fit(births), fit(deaths), count


def _merges(
    prob: jax.Array, *, dimension: int, border: str, superlevel: bool
) -> tuple[jax.Array, ...]:
    """Follows the components of all images `[..., H, W]`, that are one graph, as they merge.

    Returns:
        Of each pixel's component, `[images, H * W]`: flat indices of the pixels of its birth and
        death; whether it died at all, and at another value than at birth; its persistence, float32.
    """
    height, width = prob.shape[-2:]
    size = height * width
    images = prob.reshape(-1, size)

    # Loops: the later a pixel enters the filtration, the older it is among the complement's.
    # Components: the earlier. Ties are broken by the flat index, in both from the filtration's.
    codes = _codes(images, superlevel)
    older = 1 if dimension == 1 else -1
    neighbours = _STRAIGHT if dimension == 1 else _STRAIGHT + _DIAGONAL
    # What lies beyond the border: the complement's outside, or the frame among the components.
    outside = (dimension == 1) == (border == 'open')

    saddle = _absorb((older * codes).reshape(-1, height, width), older, neighbours, outside)

    met = jnp.maximum(saddle, 0)
    died = (saddle >= 0) & (codes != jnp.take_along_axis(codes, met, axis=-1))
    died &= ~jnp.any(jnp.isnan(images), axis=-1, keepdims=True)
    peak = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), met.shape)
    birth, death = (peak, met) if dimension == 0 else (met, peak)
    return birth, death, died, jnp.abs(images - jnp.take_along_axis(images, met, axis=-1))


def _codes(images: jax.Array, superlevel: bool) -> jax.Array:
    """Integers in the order of the filtration. Equal where values are equal, -0.0 and 0.0 too."""
    bits = lax.bitcast_convert_type(images, jnp.int32)
    ordered = jnp.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    return -ordered if superlevel else ordered


def _absorb(
    age: jax.Array, older: int, neighbours: tuple[tuple[int, int], ...], outside: bool
) -> jax.Array:
    """The pixel at which the component of each peak dies, as a flat index; -1 if never.

    Args:
        age: `[images, H, W]` int32, high is old.
        older: which of two pixels of the same age is: 1 for the higher flat index, -1 for the
            lower one.
        neighbours: half of the offsets that connect pixels.
        outside: whether one more node, older than all, is a neighbour of all border pixels.

    Returns:
        int32 `[images, H * W]`, -1 as well for all pixels that are no peak.
    """
    images, height, width = age.shape
    size = height * width
    if images == 0 or size == 0:
        return jnp.full((images, size), -1, jnp.int32)
    # Pixels by number: image * stride + flat index. Behind an image's pixels comes the outside, and
    # numbers that stand for nothing.
    stride = -(-(size + 1) // WORD) * WORD
    first = jnp.arange(images, dtype=jnp.int32)[:, None, None] * stride
    node = first + jnp.arange(size, dtype=jnp.int32).reshape(height, width)
    row, column = jnp.arange(height)[:, None], jnp.arange(width)

    def across(x: jax.Array, offset: tuple[int, int]) -> jax.Array:
        """The neighbours' values, and some number beyond the border."""
        dy, dx = offset
        framed = jnp.pad(x, ((0, 0), (1, 1), (1, 1)))
        return framed[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    def there(offset: tuple[int, int]) -> jax.Array:
        """Whether there is such a neighbour."""
        y, x = row + offset[0], column + offset[1]
        return (y >= 0) & (y < height) & (x >= 0) & (x < width)

    def flat(offset: tuple[int, int]) -> int:
        return offset[0] * width + offset[1]

    def is_older(offset: tuple[int, int]) -> jax.Array:
        """Whether such a neighbour, where there is one, is older."""
        other = across(age, offset)
        return other >= age if older * flat(offset) > 0 else other > age

    oldest, to = age, node
    # In an order in which the later of two neighbours of the same age is the older one.
    both_ways = (*neighbours, *((-y, -x) for y, x in neighbours))
    for offset in sorted(both_ways, key=lambda offset: older * flat(offset)):
        other = across(age, offset)
        steeper = there(offset) & is_older(offset) & (other >= oldest)
        oldest = jnp.where(steeper, other, oldest)
        to = jnp.where(steeper, node + flat(offset), to)
    if outside:
        rim = (row == 0) | (row == height - 1) | (column == 0) | (column == width - 1)
        to = jnp.where(rim, first + size, to)

    def by_node(pixels: jax.Array, beyond: Any) -> jax.Array:
        beyond = jnp.broadcast_to(beyond, (images, stride - size)).astype(pixels.dtype)
        return jnp.concatenate([pixels.reshape(images, size), beyond], axis=1).reshape(-1)

    peaks, ages = _roots(by_node(to, first[:, 0] + size)), by_node(age, _HIGHEST)
    peak = peaks.reshape(images, stride)[:, :size].reshape(age.shape)

    # Edges between basins. One is as high as the younger of its ends.
    joins, level, low = [], [], []
    for offset in neighbours:
        joins.append(there(offset) & (peak != across(peak, offset)))
        level.append(jnp.where(is_older(offset), age, across(age, offset)))
        low.append(jnp.where(is_older(offset), node, node + flat(offset)))
    levels = jnp.where(jnp.stack(joins), jnp.stack(level), _HIGHEST)
    # Barriers are for XLA on CPUs, which would compute what is before them again for each use.
    levels, ties = lax.optimization_barrier((levels, older * jnp.stack(low)))
    needless = lax.optimization_barrier(lowest_of_rings(levels, ties))
    chosen = [by_node(x & ~y, False) for x, y in zip(joins, needless, strict=True)]

    def ends(place: jax.Array) -> tuple[jax.Array, ...]:
        """The peaks of the two basins that an edge joins, and its lower end."""
        here = place % ages.shape[0]
        there = here + jnp.array(list(map(flat, neighbours)), jnp.int32)[place // ages.shape[0]]
        low = jnp.where(_is_older(ages, older, there, here), here, there)
        return peaks[here], peaks[there], low

    places = len(neighbours) * ages.shape[0]
    part = jax.core.max_dim(places // _PARTS, _LEAST_PLACES)  # the batch may be symbolic
    # Of the edges no more than pixels are left, with diagonals three times as many. With straight
    # ones: a spanning tree of each basin is inside, and one more edge for each square that is, and
    # of two other squares one edge at least is their lowest; peaks are half of the pixels at most.
    # With diagonals: four edges of a square without a triangle, sides shared with the next square.
    room = (len(neighbours) - 1) * ages.shape[0]
    lists, count = listed(jnp.concatenate(chosen), ends, part, room)
    saddle = _meet(lists, count, part, ages, older)
    saddle = saddle.reshape(images, stride)[:, :size]
    return jnp.where(saddle >= 0, saddle - first[:, 0], -1)


def _meet(
    lists: tuple[jax.Array, ...], count: jax.Array, part: int, age: jax.Array, older: int
) -> jax.Array:
    """The node at which each component dies, `[nodes]`, -1 if never.

    Args:
        lists: of edges: the two components that each joins, by the node of their peak, and its
            lower end.
        count: of edges; the lists go on behind them.
        part: how many places of the lists are looked at together.
        age: of all nodes; high is old, and of the same age the one of the higher `older * node`.
    """
    nodes = age.shape[0]

    def edges(
        lists: tuple[jax.Array, ...], count: jax.Array, i: jax.Array
    ) -> tuple[jax.Array, ...]:
        """A part of the lists, and which of its places hold edges."""
        found = (lax.dynamic_slice(x, (i * part,), (part,)) for x in lists)
        return *found, i * part + jnp.arange(part) < count

    def over_parts(count: jax.Array, body: Any, start: Any) -> Any:
        return lax.fori_loop(0, -(-count // part), body, start)

    def round_(state: tuple[Any, ...]) -> Any:
        lists, count, parent, saddle = state

        def highest(key: Any, chosen: Any) -> jax.Array:
            """Of each component's chosen edges the highest key."""

            def in_part(i: jax.Array, highest: jax.Array) -> jax.Array:
                one, two, low, real = edges(lists, count, i)
                for end in (one, two):
                    value = jnp.where(real & chosen(end, low), key(low), _LOWEST)
                    highest = highest.at[end].max(value)
                return highest

            none = jnp.full(nodes, _LOWEST, jnp.int32) + 0 * count
            found: jax.Array = over_parts(count, in_part, none)
            return found

        height = highest(lambda low: age[low], lambda end, low: True)
        first = highest(lambda low: older * low, lambda end, low: height[end] == age[low])

        def absorb(i: jax.Array, state: Any) -> Any:
            parent, saddle = state
            one, two, low, real = edges(lists, count, i)
            two_is_older = _is_older(age, older, two, one)
            dies, into = jnp.where(two_is_older, one, two), jnp.where(two_is_older, two, one)
            there = real & (height[dies] == age[low]) & (first[dies] == older * low)
            dies = jnp.where(there, dies, nodes)
            dies, into = lax.optimization_barrier((dies, into))
            # Three components can meet in one pixel, by edges of one height: whichever of the older
            # ones it is absorbed by, they too become one there.
            return parent.at[dies].set(into, mode='drop'), saddle.at[dies].set(low, mode='drop')

        parent, saddle = over_parts(count, absorb, (parent, saddle))

        def keep(i: jax.Array, state: Any) -> Any:
            """Follows components to what absorbed them, and drops edges inside of one."""
            lists, kept = state
            one, two, low, real = edges(lists, count, i)
            one, two = _followed(parent, one, two)
            joins = real & (one != two)
            rank = jnp.cumsum(joins, dtype=jnp.int32)  # of JAX's own choice it may be int64
            place = jnp.where(joins, kept + rank - 1, lists[0].shape[0])
            pairs = zip(lists, (one, two, low), strict=True)
            lists = tuple(x.at[place].set(new, mode='drop') for x, new in pairs)
            return lists, kept + jnp.sum(joins, dtype=jnp.int32)

        return *over_parts(count, keep, (lists, 0 * count)), parent, saddle

    # In shard_map the loop's state has to depend on what differs between devices.
    parent = jnp.arange(nodes, dtype=jnp.int32) + 0 * count
    state = lists, count, parent, jnp.full(nodes, -1, jnp.int32) + 0 * count
    return lax.while_loop(lambda state: state[1] > 0, round_, state)[-1]


def _is_older(age: jax.Array, older: int, one: jax.Array, other: jax.Array) -> jax.Array:
    """Whether nodes are older than others; of the same age the higher `older * node` is."""
    ages = age[one], age[other]
    return (ages[0] > ages[1]) | ((ages[0] == ages[1]) & (older * one > older * other))


def _followed(parent: jax.Array, one: jax.Array, two: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The roots of nodes."""

    def step(state: tuple[jax.Array, ...]) -> Any:
        one, two, _ = state
        further = parent[one], parent[two]
        return *further, jnp.any((further[0] != one) | (further[1] != two))

    one, two, _ = lax.while_loop(lambda s: s[2], step, (one, two, jnp.any(one >= 0)))
    return one, two


def _roots(parent: jax.Array) -> jax.Array:
    """Follows every node to its root, in jumps that double in length."""

    def jump(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        further = state[0][state[0]]
        twice = further[further]
        return twice, jnp.any(twice != further)

    return lax.while_loop(lambda state: state[1], jump, (parent, jnp.any(parent >= 0)))[0]
