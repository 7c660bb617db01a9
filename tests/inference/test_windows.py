"""The grid of windows: each pixel has one owner, weights sum to 1, and blending is exact."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from taclnet_jax.inference.windows import Side, WindowGrid

SIDES = st.builds(
    lambda size, window, share: Side(size, window, max(window * share // 100, 1)),
    st.integers(1, 700),
    st.integers(16, 200),
    st.integers(1, 25),
)


@given(SIDES)
def test_a_side_is_divided_and_weights_sum_to_1(side: Side) -> None:
    owned, weight = np.zeros(side.size, int), np.zeros(side.size)
    for k in range(side.count):
        seen = side.seen(k)
        owned[side.own(k)] += 1
        weight[seen] += side.weights(k)
        assert seen.stop - seen.start <= side.longest
        # What a window sees is its own pixels and the halo, and nothing beyond the section.
        assert seen.start == max(side.own(k).start - side.halo, 0)
        assert seen.stop == min(side.own(k).stop + side.halo, side.size)
    assert (owned == 1).all()
    np.testing.assert_allclose(weight, 1, atol=1e-6)
    if side.size < 1.5 * side.window:
        assert side.count == 1 and side.own(0) == side.seen(0) == slice(0, side.size)


@given(SIDES, st.floats(0, 1), st.floats(0, 1))
def test_owners_and_seers_of_a_part(side: Side, a: float, b: float) -> None:
    first, last = sorted((int(a * (side.size - 1)), int(b * (side.size - 1))))
    part = set(range(first, last + 1))
    for found, pixels in ((side.owners, side.own), (side.seers, side.seen)):
        expected = [k for k in range(side.count) if part & set(range(side.size)[pixels(k)])]
        assert list(found(slice(first, last + 1))) == expected


@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.integers(0, 100),
)
def test_what_all_windows_agree_on_is_what_they_give_together(
    shape: tuple[int, int], cuts: tuple[float, float, float, float], seed: int
) -> None:
    grid = WindowGrid(shape, window=24, halo=5)
    image = np.random.default_rng(seed).random(shape, np.float32)
    ends = [
        sorted((int(a * (n - 1)), int(b * (n - 1))))
        for a, b, n in zip(cuts[::2], cuts[1::2], shape, strict=True)
    ]
    part = slice(ends[0][0], ends[0][1] + 1), slice(ends[1][0], ends[1][1] + 1)
    blended = grid.blended(part, lambda window, inside: image[window.seen][inside])
    np.testing.assert_allclose(blended, image[part], atol=1e-6)


def test_windows_fade_into_each_other() -> None:
    grid = WindowGrid((20, 99), window=40, halo=10)
    assert grid.sides[1].count == 2
    whole = slice(0, 20), slice(0, 99)
    blended = grid.blended(whole, lambda window, inside: np.full((20, 99), window.place[1])[inside])
    expected = np.clip((np.arange(99) + 0.5 - 30) / 20, 0, 1)
    np.testing.assert_allclose(blended, np.tile(expected, (20, 1)), atol=1e-6)
