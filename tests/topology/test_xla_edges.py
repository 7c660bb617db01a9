"""Which edges between basins matter, and their list."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from taclnet_jax.topology import xla_backend
from taclnet_jax.topology.xla_edges import WORD, listed, lowest_of_rings

HIGHEST = np.iinfo(np.int32).max
OFFSETS = ((0, 1), (1, 0), (1, 1), (1, -1))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.floats(0, 1), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_the_list_has_the_chosen_places(words: int, share: float, part: int, seed: int) -> None:
    chosen = np.random.default_rng(seed).random(words * WORD) < share
    lists, count = listed(jnp.asarray(chosen), lambda place: (place, 2 * place), part, chosen.sum())
    places, doubled = lists
    expected = np.flatnonzero(chosen)
    assert count == len(expected)
    np.testing.assert_array_equal(np.sort(places[: int(count)]), expected)
    np.testing.assert_array_equal(doubled[: int(count)], 2 * places[: int(count)])


@pytest.mark.parametrize('shape', [(1, 9), (16, 33)])
@pytest.mark.parametrize('dimension', [0, 1])
@pytest.mark.parametrize('border', ['open', 'membrane'])
def test_there_is_room_for_all_edges_that_remain(
    shape: tuple[int, int], dimension: int, border: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remain = []

    def recorded(chosen: Any, values: Any, part: int, room: int) -> Any:
        assert room >= pixels
        lists, count = listed(chosen, values, part, room)
        jax.debug.callback(lambda count: remain.append(int(count)), count)
        return lists, count

    monkeypatch.setattr(xla_backend, 'listed', recorded)
    options = {'dimension': dimension, 'border': border, 'superlevel': True}
    call = jax.jit(lambda prob: xla_backend._merges(prob, **options))
    y, x = np.indices(shape)
    noise = np.random.default_rng(0).random((20, *shape))
    pixels = noise.size * (1 if dimension == 1 else 3)
    # As many peaks as there can be, with straight neighbours and with diagonal ones; and few.
    for peaks in ((y + x) % 2, (y % 2) * (x % 2), y % 2, 0 * y):
        jax.block_until_ready(call(jnp.asarray((noise + peaks) / 2, jnp.float32)))
        jax.block_until_ready(call(jnp.asarray((noise - peaks) / 2, jnp.float32)))
    jax.effects_barrier()
    assert len(remain) == 8 and max(remain) <= pixels, remain


@pytest.mark.parametrize('kinds', [2, 4])
@pytest.mark.parametrize('basins', [6, 1000])
def test_a_spanning_forest_of_the_highest_edges_remains(kinds: int, basins: int) -> None:
    height, width = 23, 17
    rng = np.random.default_rng(basins + kinds)
    # Basins are parts of the plane nearest to some pixel; single pixels where there are many.
    seeds = rng.permutation(height * width)[:basins]
    y, x = np.mgrid[:height, :width].reshape(2, -1)
    distance = (y[:, None] - y[seeds]) ** 2 + (x[:, None] - x[seeds]) ** 2
    basin = seeds[np.argmin(distance, axis=1)].reshape(height, width)
    edge_height = rng.permutation(kinds * height * width).reshape(kinds, 1, height, width)

    # Edges inside of a basin, and beyond the border, are higher than all others.
    joins = np.zeros(edge_height.shape, bool)
    ends = np.zeros((2, *edge_height.shape), int)
    for kind, (dy, dx) in enumerate(OFFSETS[:kinds]):
        for r in range(height - dy):
            for c in range(max(0, -dx), width - max(0, dx)):
                ends[:, kind, 0, r, c] = basin[r, c], basin[r + dy, c + dx]
                joins[kind, 0, r, c] = basin[r, c] != basin[r + dy, c + dx]
    level = np.where(joins, edge_height, HIGHEST).astype(np.int32)
    lowest = lowest_of_rings(jnp.asarray(level), jnp.zeros(level.shape, jnp.int32))
    needless = np.asarray(lowest) & joins

    def forest(which: np.ndarray) -> float:
        """The sum of the heights of the spanning forest of the highest of these edges."""
        one, two = np.sort(ends[:, which], axis=0)
        cost = (edge_height.max() + 1 - edge_height)[which]
        # Of parallel edges the highest: the matrix would have their sum.
        order = np.lexsort((cost, two, one))
        one, two, cost = one[order], two[order], cost[order]
        new = np.r_[True, (one[1:] != one[:-1]) | (two[1:] != two[:-1])]
        size = height * width
        matrix = coo_array((cost[new], (one[new], two[new])), shape=(size, size))
        tree = minimum_spanning_tree(matrix.tocsr())
        return float(tree.nnz * (edge_height.max() + 1) - tree.sum())

    assert forest(joins & ~needless) == forest(joins)
    assert needless.sum() > 0.2 * joins.sum()
