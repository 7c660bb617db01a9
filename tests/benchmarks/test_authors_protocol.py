"""Attention that is steered by labels, for comparison."""

from __future__ import annotations

import numpy as np

from benchmarks.authors_protocol import PATCH_PX, betti_number, gated


def wall(shape: tuple[int, int], column: int) -> np.ndarray:
    membrane = np.zeros(shape, bool)
    membrane[:, column] = True
    return membrane


def test_the_betti_number_of_a_framed_patch_is_the_number_of_cells() -> None:
    assert betti_number(np.zeros((5, 5), bool)) == 1
    assert betti_number(wall((5, 5), 2)) == 2
    assert betti_number(wall((5, 5), 0)) == 1
    assert betti_number(np.eye(4, dtype=bool)) == 2
    assert betti_number(np.ones((5, 5), bool)) == 0


def test_attention_is_added_where_the_number_is_wrong() -> None:
    side = PATCH_PX
    truth = np.concatenate([wall((side, side), 20), wall((side, 7), 3)], axis=1)
    prob = truth.astype(np.float32)
    prob[5, 20] = 0  # leaks in the first patch, not in the second
    refined = np.full_like(prob, 0.7)
    mixed = gated(prob, refined, truth)
    np.testing.assert_array_equal(mixed[:, :side], refined[:, :side])
    np.testing.assert_array_equal(mixed[:, side:], prob[:, side:])
    assert prob[5, 20] == 0
