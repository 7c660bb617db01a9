"""Stacks of segments for the tests of neurons."""

from __future__ import annotations

import numpy as np

from taclnet_jax.metrics import pieces_of_ids


def numbered_through(ids: np.ndarray) -> np.ndarray:
    """The same ids, each section's numbered on from those before it."""
    stack = np.zeros(ids.shape, np.int64)
    for z, section in enumerate(ids):
        names, places = np.unique(section[section > 0], return_inverse=True)
        stack[z][section > 0] = places + 1 + stack.max()
    return stack


def pieces(ids: np.ndarray) -> np.ndarray:
    """What sections show of ids: their connected pieces, numbered through."""
    return numbered_through(np.stack([pieces_of_ids(section) for section in ids]))
