"""Topological attention for JAX, without parameters. Knows nothing of microscopy or of training."""

from taclnet_jax.attention.dense import blockwise_attention as blockwise_attention
from taclnet_jax.attention.dense import dense_attention as dense_attention
from taclnet_jax.attention.linear import topological_attention as topological_attention
from taclnet_jax.attention.sta import STAOutput as STAOutput
from taclnet_jax.attention.sta import iterative_attention as iterative_attention
from taclnet_jax.attention.sta import sta_attention as sta_attention
