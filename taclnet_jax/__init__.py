"""TACLNet in JAX: topological attention for segmenting electron-microscopy volumes.

The names below are the library for other people's models. They are imported on first use, so that
the command line's --help need not wait for JAX, and bring neither training nor data with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from taclnet_jax.attention import STAOutput as STAOutput
    from taclnet_jax.attention import blockwise_attention as blockwise_attention
    from taclnet_jax.attention import dense_attention as dense_attention
    from taclnet_jax.attention import iterative_attention as iterative_attention
    from taclnet_jax.attention import sta_attention as sta_attention
    from taclnet_jax.attention import topological_attention as topological_attention
    from taclnet_jax.topology import PersistencePairs as PersistencePairs
    from taclnet_jax.topology import critical_map as critical_map
    from taclnet_jax.topology import critical_points as critical_points
    from taclnet_jax.topology import persistence_diagram as persistence_diagram
    from taclnet_jax.topology import persistence_pairs as persistence_pairs

__version__ = '0.1.0'

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        'attention': [
            'STAOutput',
            'blockwise_attention',
            'dense_attention',
            'iterative_attention',
            'sta_attention',
            'topological_attention',
        ],
        'topology': [
            'PersistencePairs',
            'critical_map',
            'critical_points',
            'persistence_diagram',
            'persistence_pairs',
        ],
    },
)
