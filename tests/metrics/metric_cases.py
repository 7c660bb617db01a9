"""Segmentations and sections that the metrics are tested on."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)
SEGMENTS = SHAPES.flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.int64, shape, elements=st.integers(0, 5))] * 2)
)
MASKS = SHAPES.flatmap(lambda shape: st.tuples(*[hnp.arrays(np.bool_, shape)] * 2))
no_deadline = settings(deadline=None)  # cores are shared


def numbered_zeros(predicted):
    """Every 0 with a number of its own: the reading of predicted membrane for other packages."""
    predicted = np.array(predicted, dtype=np.int64)
    zeros = predicted == 0
    predicted[zeros] = predicted.max() + 1 + np.arange(np.count_nonzero(zeros))
    return predicted


def membrane_section(size=80, cells=20, seed=0):
    """A Voronoi section: membrane between cells, and a smooth probability of it."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, size, (cells, 2))
    grid = np.stack(np.mgrid[:size, :size], -1)[:, :, None]
    nearest = np.sort(np.linalg.norm(grid - centres, axis=-1), axis=-1)
    gap = nearest[..., 1] - nearest[..., 0]
    noise = rng.normal(0, 0.08, gap.shape)
    return np.clip(np.exp(-gap / 4) + noise, 0, 1), gap < 2


def flawed_section(seed=0):
    """`membrane_section` with a probability that misses membranes and sees false ones."""
    prob, membrane = membrane_section(seed=seed)
    missed = np.random.default_rng(seed).random((16, 16)) < 0.2
    prob[np.repeat(np.repeat(missed, 5, axis=0), 5, axis=1)] = 0
    prob[::29] = 1
    return prob, membrane
