"""From the region graph to neurons: which segments are one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taclnet_jax.errors import InputError
from taclnet_jax.neurons.graph import RegionGraph

THRESHOLD = 0.2
"""The IoU from which segments are joined; docs/neurons.md has how it was chosen."""

FARTHER = 0.8
"""Of an IoU, for each section in between, when it ranks. With 1, ARAND is twice as high on tissue
with exact ids; with less, more neurons are joined through segments that hold two."""

MOSTLY, STILL = 0.7, 0.5
"""Of the segment at its end lie in the neuron of which it is a branch, in the next section and in
the one after that."""


def agglomerate(graph: RegionGraph, threshold: float = THRESHOLD) -> NDArray[np.uint64]:
    """Joins segments to neurons, those that overlap best first, then branches at their ends.

    First, neurons never get two segments of one section. Of two that overlap a segment about as
    well, the one in the nearer section comes first: for each section in between, an IoU ranks as
    0.8 of what it is. Where a section shows two neurons as one segment, it joins the one that it
    overlaps better, and the other is followed from the section before to the one after: as both
    neurons have segments of their own in the other sections, they are not joined through it.

    The same keeps apart the branches of a neuron, of which one ends where they meet. So in the end
    a neuron whose first or last segment lies mostly in a segment of another one, and half in that
    neuron in the section after it as well, is joined with it.

    Args:
        graph: of `region_graph`.
        threshold: the least IoU of two segments that are joined, 0 to 1: 0 joins whatever overlaps,
            1 what has the same outline.

    Returns:
        The neuron of each of the graph's segments, `[segments]`, numbered from 1 in their order.

    Raises:
        InputError: the threshold is out of range.

    Example:
        >>> from taclnet_jax.neurons import region_graph
        >>> graph = region_graph(np.array([[[1, 1, 2]], [[3, 3, 3]]]))  # 3: 2/3 of 1, 1/3 of 2
        >>> agglomerate(graph, 0.4).tolist()
        [1, 2, 1]
    """
    if not 0 <= threshold <= 1:
        raise InputError(f'Expected a threshold of the IoU from 0 to 1, found {threshold}.')
    enough = graph.iou >= threshold
    rank, edges = ranks(graph)[enough], graph.edges[enough]
    joined = _Joined(graph.sections)
    # By sections and ids where ranks are equal, whatever the order in which edges were found.
    ordered = edges[np.lexsort((edges[:, 1], edges[:, 0], -rank))]
    for first, second in zip(*ordered.T.tolist(), strict=True):
        joined.join_apart(first, second)
    for first, second in _branches(graph, joined.roots(), enough).tolist():
        joined.join(first, second)
    _, first_places, neurons = np.unique(joined.roots(), return_index=True, return_inverse=True)
    numbers = np.empty(len(first_places), np.uint64)
    numbers[np.argsort(first_places)] = np.arange(1, len(first_places) + 1)
    return numbers[neurons]


def ranks(graph: RegionGraph) -> NDArray[np.float64]:
    """Of each edge: its IoU, and 0.8 of it for each section in between."""
    return graph.iou * FARTHER ** (graph.distances - 1)


def _branches(
    graph: RegionGraph, neurons: NDArray[np.int64], enough: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The edges, of those that overlap enough, by which a neuron's end is a branch of another.

    Its segment there lies mostly in one of the other neuron, and half in that of the section after
    it as well, if there is one: in a single one a membrane may just be faint.
    """
    depth, count = len(graph.starts) - 1, len(graph.ids)
    sections, distances, (earlier, later) = graph.sections, graph.distances, graph.edges.T
    first, last = np.full(count, depth), np.full(count, -1)
    np.minimum.at(first, neurons, sections)
    np.maximum.at(last, neurons, sections)
    found = []
    for own, other, end, onwards in ((earlier, later, last, 1), (later, earlier, first, -1)):
        at_end = sections[own] == end[neurons[own]]
        share = graph.overlaps / graph.sizes[own]
        inside = at_end & enough & (distances == 1) & (share >= MOSTLY)
        pairs = own * count + neurons[other]  # a segment and another neuron, as one number
        after, still = sections[own] + 2 * onwards, at_end & (distances == 2) & (share >= STILL)
        stays = (after < 0) | (after >= depth) | np.isin(pairs, pairs[still])
        found.append(graph.edges[inside & stays])
    return np.concatenate(found)


class _Joined:
    """Disjoint sets of segments.

    Args:
        sections: of each segment.
    """

    # Lists, not scipy's DisjointSet, whose dictionaries take ten times the memory.
    def __init__(self, sections: NDArray[np.int64]) -> None:
        self._parent = list(range(len(sections)))
        # Of each root: its first section, and a bit for each from there on in which it has one.
        self._first: list[int] = sections.tolist()
        self._bits = [1] * len(sections)

    def roots(self) -> NDArray[np.int64]:
        """Of each segment: the one that stands for its set."""
        return np.array([self._root(segment) for segment in range(len(self._parent))])

    def _root(self, segment: int) -> int:
        parent = self._parent
        while parent[segment] != segment:
            parent[segment] = parent[parent[segment]]
            segment = parent[segment]
        return segment

    def join(self, a: int, b: int) -> None:
        """Joins the sets of two segments."""
        self._parent[self._root(b)] = self._root(a)

    def join_apart(self, a: int, b: int) -> None:
        """Joins the sets of two segments, unless a section has one of each."""
        a, b = self._root(a), self._root(b)
        if self._first[a] > self._first[b]:
            a, b = b, a
        bits = self._bits[b] << (self._first[b] - self._first[a])
        if a != b and not self._bits[a] & bits:
            self._parent[b] = a
            self._bits[a] |= bits
