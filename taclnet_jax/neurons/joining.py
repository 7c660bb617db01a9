"""Writes the numbers of neurons in place of those of segments, section by section."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taclnet_jax.errors import InputError
from taclnet_jax.neurons.graph import RegionGraph
from taclnet_jax.volumes import LazySections, Sections


def joined(segments: Sections, graph: RegionGraph, neurons: NDArray[np.uint64]) -> LazySections:
    """The neurons of a stack, of its segments; computed as they are read.

    Args:
        segments: `[z, y, x]`, of which the graph is.
        graph: of `region_graph`.
        neurons: of each of the graph's segments, of `agglomerate`.

    Returns:
        `[z, y, x]`, uint32 where the numbers fit and uint64 elsewhere; 0 = membrane. Reading raises
        InputError where a segment is not in the graph.
    """
    dtype = np.dtype(np.uint32 if neurons.max(initial=0) < 2**32 else np.uint64)

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        crop = segments[z, rows, columns]
        section = slice(graph.starts[z], graph.starts[z + 1])
        ids = np.concatenate([np.zeros(1, np.uint64), graph.ids[section]])
        numbers = np.concatenate([np.zeros(1, dtype), neurons[section].astype(dtype)])
        wanted = crop.astype(np.uint64)
        places = np.searchsorted(ids, wanted).clip(max=len(ids) - 1)
        if not np.array_equal(ids[places], wanted):
            raise InputError(
                f'Expected the segments that the region graph was made of, found others in section '
                f'{z}; remove the graph, and it is made again.'
            )
        return numbers[places]

    return LazySections(segments.shape, dtype, read)
