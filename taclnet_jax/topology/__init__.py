"""Persistent homology of images for JAX. Knows nothing of microscopy or of training."""

from taclnet_jax.topology.critical_points import critical_map as critical_map
from taclnet_jax.topology.critical_points import critical_points as critical_points
from taclnet_jax.topology.gudhi_backend import check_callbacks_can_run as check_callbacks_can_run
from taclnet_jax.topology.persistence import BACKENDS as BACKENDS
from taclnet_jax.topology.persistence import PersistencePairs as PersistencePairs
from taclnet_jax.topology.persistence import persistence_diagram as persistence_diagram
from taclnet_jax.topology.persistence import persistence_pairs as persistence_pairs
