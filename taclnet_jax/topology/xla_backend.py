"""Persistence in pure XLA: no host and no callback, for accelerators, exports and many hosts.

By duality a loop is a component of the complement: it dies at the component's peak, the last of its
pixels to enter the filtration, and is born where the component meets an older one. Components
themselves are the same problem upside down. Both are solved in rounds, all components at once:
each looks for its highest way out and, if the component across is older, is absorbed there.

That is exact. A component that is absorbed always left by its highest way out, so whatever it
brings along is connected above every edge that remains.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

# Half of the neighbours; the others are their opposites.
_STRAIGHT = ((0, 1), (1, 0))
_DIAGONAL = ((1, 1), (1, -1))


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
        Of each pixel's component, `[images, N]`: flat indices of the pixels of its birth and death;
        whether it died at all, and at another value than at birth; its persistence, float32.
    """
    height, width = prob.shape[-2:]
    size = height * width
    images = prob.reshape(-1, size)

    # Loops: the later a pixel enters the filtration, the older it is among the complement's.
    # Components: the earlier. Ties are broken by the flat index, in both from the filtration's.
    codes = _codes(images, superlevel)
    index = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), codes.shape)
    _, by_age = jax.lax.sort((codes, index), dimension=-1, num_keys=1, is_stable=True)
    if dimension == 0:
        by_age = by_age[:, ::-1]
    neighbours = _STRAIGHT if dimension == 1 else _STRAIGHT + _DIAGONAL
    rows = jnp.arange(images.shape[0], dtype=jnp.int32)[:, None]
    age = jnp.zeros_like(by_age).at[rows, by_age].set(index, unique_indices=True)
    # What lies beyond the border: the complement's outside, or the frame among the components.
    outside = (dimension == 1) == (border == 'open')

    saddle = _absorb(age.reshape(-1, height, width), neighbours, outside)

    met = jnp.maximum(saddle, 0)
    values = jnp.take_along_axis(images, by_age, axis=-1)
    codes = jnp.take_along_axis(codes, by_age, axis=-1)
    died = (saddle >= 0) & (codes != jnp.take_along_axis(codes, met, axis=-1))
    ends = by_age, jnp.take_along_axis(by_age, met, axis=-1)
    birth, death = ends if dimension == 0 else ends[::-1]
    died &= ~jnp.any(jnp.isnan(images), axis=-1, keepdims=True)
    return birth, death, died, jnp.abs(values - jnp.take_along_axis(values, met, axis=-1))


def _codes(images: jax.Array, superlevel: bool) -> jax.Array:
    """Integers in the order of the filtration. Equal where values are equal, -0.0 and 0.0 too."""
    bits = jax.lax.bitcast_convert_type(images, jnp.int32)
    ordered = jnp.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    return -ordered if superlevel else ordered


def _absorb(age: jax.Array, neighbours: tuple[tuple[int, int], ...], outside: bool) -> jax.Array:
    """The age of the pixel at which the component of each node dies, -1 if never.

    Args:
        age: `[images, H, W]`, each image a permutation of its N = H * W pixels; high is old.
        neighbours: half of the offsets that connect pixels.
        outside: whether one more node, older than all, is a neighbour of all border pixels.

    Returns:
        int32 `[images, N]`, by age.
    """
    images, height, width = age.shape
    size = height * width
    # A component is called by the node of its oldest pixel: image * stride + age. The last of an
    # image's nodes is the outside.
    stride = size + 1
    first = jnp.arange(images, dtype=jnp.int32)[:, None, None] * stride
    offsets = neighbours + tuple((-y, -x) for y, x in neighbours)

    def across(x: jax.Array, beyond: jax.Array, offset: tuple[int, int]) -> jax.Array:
        """The neighbours' values; `beyond` at those that are not in the image."""
        dy, dx = offset
        framed = jnp.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=-1)
        moved = framed[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        return jnp.where(moved < 0, beyond, moved)

    # An edge is as high as the lower of its ends.
    heights = [jnp.minimum(age, across(age, jnp.full_like(first, size), o)) for o in offsets]

    def round_(
        state: tuple[jax.Array, jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        label, saddle, _ = state
        beyond = first + size if outside else label
        best = jnp.full_like(label, -1)
        target = jnp.full_like(label, -1)
        for offset, edge in zip(offsets, heights, strict=True):
            other = across(label, beyond, offset)
            edge = jnp.where(other != label, edge, -1)
            # Among equally high ways, which share their lower pixel, to the oldest component.
            target = jnp.where(
                edge > best, other, jnp.where(edge == best, jnp.maximum(target, other), target)
            )
            best = jnp.maximum(best, edge)
        best, target, flat = best.reshape(-1), target.reshape(-1), label.reshape(-1)

        highest = jnp.full_like(saddle, -1).at[flat].max(best)
        target = jnp.where((best >= 0) & (best == highest[flat]), target, -1)
        oldest = jnp.full_like(saddle, -1).at[flat].max(target)
        node = jnp.arange(saddle.shape[0], dtype=jnp.int32)
        dies = oldest > node
        saddle = jnp.where(dies, highest, saddle)

        parent = _roots(jnp.where(dies, oldest, node))
        return parent[label], saddle, jnp.any(dies)

    label = first + age
    # In shard_map the loop's state has to depend on what differs between devices.
    going = jnp.any(label >= 0)
    saddle = jnp.where(going, jnp.full(images * stride, -1, jnp.int32), -1)
    state = (label, saddle, going)
    _, saddle, _ = jax.lax.while_loop(lambda state: state[2], round_, state)
    return saddle.reshape(images, stride)[:, :size]


def _roots(parent: jax.Array) -> jax.Array:
    """Follows every node to its root, halving the distance each time."""

    def jump(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        further = state[0][state[0]]
        return further, jnp.any(further != state[0])

    return jax.lax.while_loop(lambda state: state[1], jump, (parent, jnp.any(parent >= 0)))[0]
