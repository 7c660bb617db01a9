"""Doubtful places against their definition, edge by edge, and where they are."""

from __future__ import annotations

from pathlib import Path

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stacks import numbered_through
from test_graph import SMALL_STACKS

from taclnet_jax.errors import InputError
from taclnet_jax.neurons import RegionGraph, agglomerate, doubtful_places, region_graph
from taclnet_jax.neurons.agglomeration import FARTHER
from taclnet_jax.neurons.doubtful import doubtful_edges, read_places, write_places
from taclnet_jax.neurons.page import continuity


def by_definition(graph: RegionGraph, neurons: np.ndarray) -> dict[tuple[str, int], int]:
    """Pixels of the smaller side, by kind and edge."""
    rank = graph.iou * FARTHER ** (graph.distances - 1)
    joins: dict[int, int] = {}
    best: dict[frozenset[int], int] = {}
    for neuron in set(neurons.tolist()):
        inside = networkx.Graph()
        inside.add_nodes_from(np.flatnonzero(neurons == neuron).tolist())
        for k, (a, b) in enumerate(graph.edges.tolist()):
            if neurons[a] == neurons[b] == neuron:
                inside.add_edge(a, b, rank=rank[k], number=k)
        tree = networkx.maximum_spanning_tree(inside, 'rank')
        for a, b, k in list(tree.edges.data('number')):
            tree.remove_edge(a, b)
            sides = [list(networkx.node_connected_component(tree, end)) for end in (a, b)]
            joins[k] = min(graph.sizes[side].sum() for side in sides)
            tree.add_edge(a, b, number=k)
    for k, (a, b) in enumerate(neurons[graph.edges].tolist()):
        pair = frozenset([a, b])
        if a != b and (pair not in best or rank[k] > rank[best[pair]]):
            best[pair] = k
    splits = {k: min(graph.sizes[neurons == n].sum() for n in pair) for pair, k in best.items()}
    found = {('join', k): pixels for k, pixels in joins.items()}
    return found | {('split', k): pixels for k, pixels in splits.items()}


@settings(deadline=None, max_examples=50)
@given(SMALL_STACKS, st.sampled_from([0, 0.2, 0.5]))
def test_they_are_the_best_edges_across_links_and_between_neurons(
    stack: np.ndarray, threshold: float
) -> None:
    if not stack.any():
        return
    graph = region_graph(stack)
    rank = graph.iou * FARTHER ** (graph.distances - 1)
    if len(np.unique(rank)) < len(rank):  # of equal ones any may stand
        return
    neurons = agglomerate(graph, threshold)
    expected = by_definition(graph, neurons)
    found = doubtful_edges(graph, neurons, listed=len(rank) + 1)
    assert {(kind, edge): pixels for kind, edge, pixels in found} == expected
    for kind in ('join', 'split'):
        listed = [(edge, pixels) for k, edge, pixels in found if k == kind]
        weight = [
            (rank[edge] if kind == 'split' else 1 - rank[edge]) ** 2 * pixels
            for edge, pixels in listed
        ]
        assert weight == sorted(weight, reverse=True)
    in_turn = min(sum(kind == k for k, *_ in found) for kind in ('join', 'split'))
    assert [kind for kind, *_ in found][: 2 * in_turn] == ['join', 'split'] * in_turn
    few = doubtful_edges(graph, neurons, listed=1)
    for kind in {kind for kind, *_ in found}:
        assert [f for f in few if f[0] == kind] == [f for f in found if f[0] == kind][:1]


@settings(deadline=None, max_examples=50)
@given(SMALL_STACKS)
def test_places_lie_in_both_segments(stack: np.ndarray) -> None:
    if not stack.any():
        return
    graph = region_graph(stack)
    for place in doubtful_places(stack, graph, agglomerate(graph, 0.2)):
        assert stack[place.z, place.y, place.x] == place.segment
        other = np.flatnonzero((stack == place.other).any((1, 2)))
        assert other > place.z and stack[other[0], place.y, place.x] == place.other
        assert (place.kind == 'join') == (place.neuron == place.other_neuron)


def test_splits_and_weak_joins_are_written_down(tmp_path: Path) -> None:
    whole = np.repeat([[1, 0, 2, 0, 3, 0, 4]], 3, axis=0).repeat(3, axis=1)
    stack = np.stack([whole] * 6)
    stack[3:, :, 12:15] = 0
    stack[3:, :1, 12:15] = 3  # a third of 3 goes on
    stack[3, :, 6:9] = 0  # 2 is lost in one section, and from there on
    stack[4:, :, 6:9] = [[2, 0, 5]] * 3  # there are two of it, of a third each
    stack = numbered_through(stack)
    graph = region_graph(stack)
    places = doubtful_places(stack, graph, agglomerate(graph, 0.4), listed=3)
    splits = [place for place in places if place.kind == 'split']
    # The thirds rank lower, for they are a section farther away.
    assert [(place.z, place.iou) for place in splits] == [(2, 0.3333)] * 3
    assert splits[0].x == 13 and {place.x for place in splits[1:]} == {6, 8}
    weak = agglomerate(graph, 0.2)
    (join,) = (p for p in doubtful_places(stack, graph, weak, listed=1) if p.kind == 'join')
    assert join.neuron == join.other_neuron and (join.z, join.iou) == (2, 0.3333)
    write_places(tmp_path / 'doubtful.csv', places)
    assert read_places(tmp_path / 'doubtful.csv') == places
    header = (tmp_path / 'doubtful.csv').read_text().splitlines()[0]
    assert header == 'kind,iou,pixels,segment,other,neuron,other_neuron,z,y,x'
    (tmp_path / 'doubtful.csv').write_text(f'{header}\njoin,much\n')
    with pytest.raises(InputError, match='join the segments again'):
        read_places(tmp_path / 'doubtful.csv')


def test_lost_sections_continue_least() -> None:
    stack = np.stack([np.repeat([[1, 1, 1, 0, 2, 2]], 2, axis=0)] * 5)
    stack[2] = 0
    stack[2, 0, 2:5] = 7
    alike = continuity(region_graph(numbered_through(stack)))
    assert alike.argmin() == 2
    assert alike[[0, 1, 3, 4]].tolist() == [1] * 4  # the other neighbour is whole
    assert alike[2] == pytest.approx(1 / 6)  # of 3 pixels one lies in one of 4
    stack[2] = 0
    assert continuity(region_graph(numbered_through(stack)))[2] == 0
