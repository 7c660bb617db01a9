"""Persistent homology of images for JAX. Knows nothing of microscopy or of training."""

from taclnet_jax.topology.critical_points import critical_map, critical_points
from taclnet_jax.topology.gudhi_backend import check_callbacks_can_run
from taclnet_jax.topology.persistence import (
    BACKENDS,
    PersistencePairs,
    persistence_diagram,
    persistence_pairs,
)

__all__ = [
    'BACKENDS',
    'PersistencePairs',
    'check_callbacks_can_run',
    'critical_map',
    'critical_points',
    'persistence_diagram',
    'persistence_pairs',
]
