"""Topological attention for JAX, without parameters. Knows nothing of microscopy or of training."""

from taclnet_jax.attention.dense import blockwise_attention, dense_attention
from taclnet_jax.attention.linear import topological_attention
from taclnet_jax.attention.sta import STAOutput, iterative_attention, sta_attention

__all__ = [
    'STAOutput',
    'blockwise_attention',
    'dense_attention',
    'iterative_attention',
    'sta_attention',
    'topological_attention',
]
