"""TACLNet in JAX: topological attention for segmenting electron-microscopy volumes.

The names below are the library for other people's models. They are imported on first use, and
bring neither training nor data with them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taclnet_jax.attention.dense import blockwise_attention, dense_attention
    from taclnet_jax.attention.linear import topological_attention
    from taclnet_jax.attention.sta import STAOutput, iterative_attention, sta_attention
    from taclnet_jax.topology import (
        PersistencePairs,
        critical_map,
        critical_points,
        persistence_diagram,
        persistence_pairs,
    )

_MODULES = {
    'STAOutput': 'attention',
    'sta_attention': 'attention',
    'topological_attention': 'attention',
    'iterative_attention': 'attention',
    'dense_attention': 'attention',
    'blockwise_attention': 'attention',
    'PersistencePairs': 'topology',
    'critical_map': 'topology',
    'critical_points': 'topology',
    'persistence_diagram': 'topology',
    'persistence_pairs': 'topology',
}

__all__ = [
    'PersistencePairs',
    'STAOutput',
    'blockwise_attention',
    'critical_map',
    'critical_points',
    'dense_attention',
    'iterative_attention',
    'persistence_diagram',
    'persistence_pairs',
    'sta_attention',
    'topological_attention',
]

__version__ = '0.1.0'


def __getattr__(name: str) -> Any:
    # Lazy, so that the command line's --help need not wait for JAX.
    if name in _MODULES:
        return getattr(importlib.import_module(f'taclnet_jax.{_MODULES[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return __all__
