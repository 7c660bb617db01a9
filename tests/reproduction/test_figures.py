"""Errors and attention in the figures; test_reproduction.py draws them from runs."""

from __future__ import annotations

import numpy as np

from reproduction.epochs import iterate
from reproduction.figures import error_marks
from taclnet_jax import metrics


def test_errors_are_marked_where_cells_are_cut_and_joined():
    truth = np.zeros((30, 62), np.int32)
    truth[:, :20], truth[:, 21:41], truth[:, 42:] = 1, 2, 3
    right = truth.copy()
    assert not any(marks.any() for marks in error_marks(truth, right))
    wrong = truth.copy()
    wrong[10:14, 20] = 1  # a hole in the membrane between 1 and 2 ...
    wrong[wrong == 2] = 1  # ... makes them one
    wrong[15, 42:] = 0  # a line of membrane cuts 3 ...
    wrong[16:, 42:] = 2  # ... in two
    cuts, joints = error_marks(truth, wrong)
    assert metrics.false_splits_and_merges(truth, wrong) == (1, 1)
    assert set(np.argwhere(cuts)[:, 0]) <= {14, 15, 16} and cuts[:, 42:].any(0).all()
    assert not cuts[:, :42].any()
    assert set(map(tuple, np.argwhere(joints))) <= {
        (y, x) for y in range(10, 14) for x in (19, 20, 21)
    }
    assert joints[10:14].any(1).all()


def test_no_error_is_marked_that_the_metric_does_not_count():
    rng = np.random.default_rng(0)
    for _ in range(8):
        truth, segments = (
            metrics.segment(np.kron(rng.random((8, 8)), np.ones((6, 6))), 0.5) for _ in range(2)
        )
        splits, merges = metrics.false_splits_and_merges(truth, segments)
        cuts, joints = error_marks(truth, segments)
        assert (splits > 0 or not cuts.any()) and (merges > 0 or not joints.any())


def test_attention_is_iterated_from_its_first_epoch():
    maps = np.array([1.0, 0.0, 0.0])[:, None, None]
    assert iterate(maps, 0.5).ravel().tolist() == [1.0, 0.5, 0.25]
