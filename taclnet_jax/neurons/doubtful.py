"""Where neurons are likeliest to be wrong, by the region graph: the list for proofreading."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from taclnet_jax.errors import InputError
from taclnet_jax.files import replacing
from taclnet_jax.neurons.agglomeration import ranks
from taclnet_jax.neurons.graph import REACH, RegionGraph
from taclnet_jax.volumes import Sections

LISTED = 100
"""Joins, and splits, that are listed."""


class Place(NamedTuple):
    """Two segments that were joined though they overlap little, or kept apart though much."""

    kind: str  # 'join' or 'split'
    iou: float  # of the two segments
    pixels: int  # on the smaller side: what changes hands if it is wrong
    segment: int
    other: int  # of a later section
    neuron: int
    other_neuron: int  # the same one for a join
    z: int  # voxel in which both overlap, in the section of `segment`
    y: int
    x: int


def doubtful_places(
    segments: Sections, graph: RegionGraph, neurons: NDArray[np.uint64], listed: int = LISTED
) -> list[Place]:
    """The weakest joins and the likeliest splits of neurons, and where they are.

    Args:
        segments: `[z, y, x]`, of which the graph is; a few are in memory.
        graph, neurons, listed: as of `doubtful_edges`, which says in which order.
    """
    iou, sections = graph.iou, graph.sections
    section = lru_cache(maxsize=REACH + 1)(segments.__getitem__)
    edges = doubtful_edges(graph, neurons, listed)
    places = {}
    for kind, edge, pixels in sorted(edges, key=lambda found: sections[graph.edges[found[1]]][0]):
        a, b = graph.edges[edge].tolist()
        z, other = sections[[a, b]].tolist()
        both = np.argwhere((section(z) == graph.ids[a]) & (section(other) == graph.ids[b]))
        # The one nearest to their middle, which may lie outside of them.
        y, x = both[np.argmin(((both - both.mean(axis=0)) ** 2).sum(axis=1))].tolist()
        names = int(graph.ids[a]), int(graph.ids[b]), int(neurons[a]), int(neurons[b])
        places[edge] = Place(kind, round(float(iou[edge]), 4), pixels, *names, z, y, x)
    return [places[edge] for _, edge, _ in edges]


def write_places(path: Path, places: Iterable[Place]) -> None:
    """Writes a table, CSV with a header, whole or not at all."""
    with replacing(path) as partial, partial.open('w', newline='') as file:
        table = csv.writer(file)
        table.writerow(Place._fields)
        table.writerows(places)


def read_places(path: Path) -> list[Place]:
    """What `write_places` wrote.

    Raises:
        InputError: it is damaged, or something else.
    """
    try:
        with path.open(newline='') as file:
            header, *rows = csv.reader(file)
        if tuple(header) != Place._fields:
            raise ValueError(header)
        return [Place(row[0], float(row[1]), *map(int, row[2:])) for row in rows]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f'Expected the doubtful places {path}, found a file that is damaged or something else; '
            'join the segments again, with --overwrite.'
        ) from error


def doubtful_edges(
    graph: RegionGraph, neurons: NDArray[np.uint64], listed: int = LISTED
) -> list[tuple[str, int, int]]:
    """The weakest joins and the likeliest splits of neurons.

    What holds a neuron together is the maximum spanning tree of the edges within it: each edge of
    it, a join, is the best between the two parts that the tree has without it, and the lower it
    ranks, the weaker it is. A split is the best edge between two neurons; the higher it ranks, the
    likelier it is wrong. Both are ordered by the pixels of the smaller side, which change hands if
    they are wrong, times the square of the doubt: the rank of splits, 1 - rank of joins. By doubt
    alone specks come first, and by its first power the longest neurons, however sure they are.

    Args:
        graph: of `region_graph`.
        neurons: of each of its segments, of `agglomerate`.
        listed: how many of each kind, at most.

    Returns:
        Kind, number of the edge, and pixels of the smaller side; joins and splits in turn, the most
        doubtful first.
    """
    rank = ranks(graph)
    of_edges = neurons[graph.edges].astype(np.int64)
    same = of_edges[:, 0] == of_edges[:, 1]
    joins = _joins(graph, neurons, rank, np.flatnonzero(same))
    splits = _splits(graph, neurons, rank, np.flatnonzero(~same))
    found = []
    for kind, (edges, pixels), doubt in (
        ('join', joins, 1 - rank[joins[0]]),
        ('split', splits, rank[splits[0]]),
    ):
        first = np.lexsort((edges, -(doubt**2) * pixels))[:listed]
        found += [(place, kind, int(edges[i]), int(pixels[i])) for place, i in enumerate(first)]
    return [entry[1:] for entry in sorted(found)]


def _joins(
    graph: RegionGraph, neurons: NDArray[np.uint64], rank: NDArray[np.float64], inside: NDArray
) -> tuple[NDArray, NDArray]:
    """The edges of the neurons' maximum spanning trees, and pixels of the smaller part of each."""
    count = len(graph.ids)
    # By their places in the order of ranks, which says which edges the trees have.
    best_first = inside[np.argsort(-rank[inside], kind='stable')]
    weights = 1.0 + np.arange(len(best_first))
    within = coo_array((weights, graph.edges[best_first].T), (count + 1, count + 1))
    tree = minimum_spanning_tree(within.tocsr())
    edges = best_first[tree.data.astype(np.int64) - 1]
    # One more vertex that leads to each neuron's first segment: one tree of all.
    _, firsts, neuron = np.unique(neurons, return_index=True, return_inverse=True)
    top = coo_array((np.ones(len(firsts)), (np.full(len(firsts), count), firsts)), within.shape)
    order, parents = breadth_first_order((tree + top).tocsr(), count, directed=False)
    below = [*graph.sizes.tolist(), 0]  # pixels of each segment and of what hangs on it
    for segment in order[:0:-1].tolist():
        below[parents[segment]] += below[segment]
    pixels = np.array(below)
    earlier, later = graph.edges[edges].T
    part = pixels[np.where(parents[later] == earlier, later, earlier)]
    whole = pixels[firsts][neuron[earlier]]
    return edges, np.minimum(part, whole - part)


def _splits(
    graph: RegionGraph, neurons: NDArray[np.uint64], rank: NDArray[np.float64], between: NDArray
) -> tuple[NDArray, NDArray]:
    """The best edge between each two neurons, and pixels of the smaller one."""
    sizes = np.zeros(int(neurons.max()) + 1, np.int64)
    np.add.at(sizes, neurons.astype(np.int64), graph.sizes)
    between = between[np.argsort(-rank[between], kind='stable')]
    pairs = np.sort(neurons[graph.edges[between]].astype(np.int64), axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)
    return between[first], sizes[pairs[first]].min(axis=1)
