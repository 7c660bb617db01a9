"""Segments joined to neurons, against joining by definition, and on tissue with exact ids."""

from __future__ import annotations

from functools import cache
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import same_up_to_numbers
from skimage.metrics import adapted_rand_error, variation_of_information
from stacks import numbered_through, pieces
from test_graph import SMALL_STACKS

from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.errors import InputError
from taclnet_jax.metrics.overlaps import Overlaps
from taclnet_jax.neurons import REACH, RegionGraph, agglomerate, joined, region_graph
from taclnet_jax.neurons.agglomeration import FARTHER, MOSTLY, STILL
from taclnet_jax.volumes import read_whole


def neurons_of(stack: np.ndarray, threshold: float = 0.2) -> np.ndarray:
    graph = region_graph(stack)
    return read_whole(joined(stack, graph, agglomerate(graph, threshold)))


def by_definition(stack: np.ndarray, threshold: float) -> np.ndarray:
    """Neurons as sets of segments, joined one pair after the other; then those that end."""
    where = {
        int(i): int(np.flatnonzero((stack == i).any((1, 2)))[0]) for i in np.unique(stack) if i
    }
    footprint = {i: stack[z] == i for i, z in where.items()}

    def iou(a: int, b: int) -> float:
        both = (footprint[a] & footprint[b]).sum()
        return both / (footprint[a] | footprint[b]).sum()

    def enough(a: int, b: int) -> bool:
        return iou(a, b) > 0 and iou(a, b) >= threshold

    def share(a: int, b: int) -> float:
        return (footprint[a] & footprint[b]).sum() / footprint[a].sum()

    pairs = []
    for a, b in combinations(sorted(where, key=lambda i: (where[i], i)), 2):
        if 1 <= where[b] - where[a] <= REACH and enough(a, b):
            rank = iou(a, b) * FARTHER ** (where[b] - where[a] - 1)
            pairs.append((-rank, where[a], a, where[b], b))
    neuron = {i: frozenset([i]) for i in where}
    for *_, a, _, b in sorted(pairs):
        union = neuron[a] | neuron[b]
        if len({where[i] for i in union}) == len(union):  # a segment a section at most
            neuron |= dict.fromkeys(union, union)
    chains = dict(neuron)
    for a, b in permutations(where, 2):
        step = where[b] - where[a]
        rest = [i for i in chains[a] if (where[i] - where[a]) * step > 0]
        if abs(step) != 1 or rest or not enough(a, b) or share(a, b) < MOSTLY:
            continue
        after = where[a] + 2 * step
        stays = [share(a, i) >= STILL for i in chains[b] if where[i] == after]
        if any(stays) or not 0 <= after < len(stack):
            union = neuron[a] | neuron[b]
            neuron |= dict.fromkeys(union, union)
    numbers = {members: k for k, members in enumerate(dict.fromkeys(neuron.values()), 1)}
    out = np.zeros(stack.shape, int)
    for i in where:
        out[stack == i] = numbers[neuron[i]]
    return out


@settings(deadline=None)
@given(SMALL_STACKS, st.sampled_from([0, 0.2, 1 / 3, 0.5, 1]))
def test_it_joins_by_definition(stack: np.ndarray, threshold: float) -> None:
    if stack.any():
        assert same_up_to_numbers(neurons_of(stack, threshold), by_definition(stack, threshold))


@settings(deadline=None)
@given(SMALL_STACKS, st.randoms(use_true_random=False))
def test_the_order_of_edges_does_not_matter(stack: np.ndarray, random: object) -> None:
    if not stack.any():
        return
    graph = region_graph(stack)
    order = list(range(len(graph.edges)))
    random.shuffle(order)
    shuffled = RegionGraph(
        graph.ids, graph.starts, graph.sizes, graph.edges[order], graph.overlaps[order]
    )
    np.testing.assert_array_equal(agglomerate(graph, 0.2), agglomerate(shuffled, 0.2))


@settings(deadline=None)
@given(SMALL_STACKS)
def test_a_stack_from_below_has_the_same_neurons_where_no_ious_are_equal(stack: np.ndarray) -> None:
    if stack.any():
        graph = region_graph(stack)
        ranks = graph.iou * FARTHER ** (graph.distances - 1)
        if len(np.unique(ranks)) == len(ranks):
            assert same_up_to_numbers(neurons_of(stack), neurons_of(stack[::-1])[::-1])


@settings(deadline=None)
@given(SMALL_STACKS)
def test_extremes_of_the_threshold(stack: np.ndarray) -> None:
    if not stack.any():
        return
    graph = region_graph(stack)
    strict, loose = agglomerate(graph, 1), agglomerate(graph, 0)
    assert set(loose) == set(range(1, int(loose.max()) + 1))
    assert loose.max() <= strict.max()
    for neuron in np.unique(strict):  # one outline
        outlines = [(stack == i).any(axis=0) for i in graph.ids[strict == neuron]]
        assert all(np.array_equal(outlines[0], other) for other in outlines)
        sections = graph.sections[strict == neuron]
        assert len(set(sections)) == len(sections)


def test_numbers_follow_the_segments() -> None:
    stack = np.array([[[4, 4, 0, 3, 3]], [[9, 9, 0, 7, 7]]])
    assert neurons_of(stack).tolist() == [[[2, 2, 0, 1, 1]], [[2, 2, 0, 1, 1]]]


def test_neurons_are_not_joined_through_a_segment_that_holds_both() -> None:
    two = np.array([[1, 1, 1, 0, 2, 2]])
    both = np.array([[1, 1, 1, 1, 1, 1]])
    stack = numbered_through(np.stack([two, two, both, two, two]))
    found = neurons_of(stack, 0)
    assert found[[0, 1, 3, 4]].tolist() == [[[1, 1, 1, 0, 2, 2]]] * 4
    assert found[2].tolist() == [[1] * 6]


BRANCHES = np.array([[1, 1, 1, 0, 2, 2, 0, 3]])
TRUNK = np.array([[1, 1, 1, 1, 1, 1, 1, 0]])
MOVED = np.array([[1, 1, 1, 1, 1, 0, 0, 0]])


@pytest.mark.parametrize('order', [1, -1])
@pytest.mark.parametrize(
    ('sections', 'neurons'),
    [
        pytest.param([BRANCHES, BRANCHES, TRUNK, TRUNK], [1, 1, 3], id='branches meet'),
        pytest.param([BRANCHES, BRANCHES, TRUNK], [1, 1, 3], id='at the border'),
        pytest.param([BRANCHES, TRUNK, MOVED], [1, 1, 3], id='half of one is still in the trunk'),
        pytest.param([BRANCHES, TRUNK, BRANCHES], [1, 2, 3], id='a faint membrane'),
        pytest.param([BRANCHES, TRUNK, 0 * TRUNK], [1, 2, 3], id='and then nothing'),
    ],
)
def test_branches_are_joined_where_they_meet(
    sections: list[np.ndarray], neurons: list[int], order: int
) -> None:
    stack = numbered_through(np.stack(sections[::order]))
    found = neurons_of(stack)[::order][0, 0, [0, 4, 7]].tolist()
    assert [found.index(i) for i in found] == [neurons.index(i) for i in neurons]


def test_what_ends_beside_a_segment_or_is_a_speck_of_it_is_no_branch() -> None:
    beside = np.array([[1, 1, 1, 0, 0, 0, 2, 2]])
    speck = np.array([[1, 1, 1, 1, 1, 0, 2, 0]])
    for section in (beside, speck):
        stack = np.stack([section, section, TRUNK, TRUNK])
        assert len(np.unique(neurons_of(numbered_through(stack))[stack > 0])) == 2


@pytest.mark.parametrize('lost', [1, 2])
@pytest.mark.parametrize('fill', [0, 9])
def test_lost_sections_are_bridged(lost: int, fill: int) -> None:
    two = np.array([[1, 1, 1, 0, 2, 2, 2, 0, 3]])
    stack = numbered_through(np.stack([two, two, *[np.full_like(two, fill)] * lost, two]))
    found = neurons_of(stack)
    assert found[0].tolist() == found[1].tolist() == found[-1].tolist() == two.tolist()


def test_a_neuron_ends_at_more_lost_sections_than_that() -> None:
    one = np.ones((1, 3), int)
    found = neurons_of(numbered_through(np.stack([one, *[0 * one] * REACH, one])))
    assert found[0, 0, 0] != found[-1, 0, 0]


@pytest.mark.parametrize('threshold', [-0.1, 1.1, float('nan')])
def test_thresholds_out_of_range_are_refused(threshold: float) -> None:
    graph = region_graph(np.ones((1, 2, 2), int))
    with pytest.raises(InputError, match='from 0 to 1'):
        agglomerate(graph, threshold)


def test_segments_of_another_graph_are_refused() -> None:
    stack = numbered_through(np.ones((2, 2, 2), int))
    graph = region_graph(stack)
    with pytest.raises(InputError, match='section 1; remove the graph'):
        read_whole(joined(stack * np.array([1, 5])[:, None, None], graph, agglomerate(graph)))


# --- Tissue with exact ids

# Found: 0.018, 0.111 and 0.054 bits at most.
ARAND, SPLIT, MERGE = 0.025, 0.14, 0.07


@cache
def tissue() -> np.ndarray:
    return np.asarray(synthetic_volume(seed=3, shape=(40, 96, 96)).ids).astype(np.int64)


def scores(truth: np.ndarray, found: np.ndarray) -> tuple[float, float, float]:
    """ARAND, and the VOI's split and merge, by scikit-image."""
    error, _, _ = adapted_rand_error(truth, found, ignore_labels=[0])
    split, merge = variation_of_information(truth, found, ignore_labels=[0])
    return error, split, merge


def test_pieces_of_sections_become_the_cells_they_are_of() -> None:
    truth = tissue()
    alone, found = pieces(truth), neurons_of(pieces(truth))
    assert scores(truth, alone)[0] > 0.9
    error, split, merge = scores(truth, found)
    assert error < ARAND and split < SPLIT and merge < MERGE


@pytest.mark.parametrize('fill', ['blank', 'flat'])
def test_they_do_so_over_lost_sections(fill: str) -> None:
    truth = tissue()
    lost = [11, 30]  # 5 %
    shown = truth.copy()
    shown[lost] = 0 if fill == 'blank' else truth.max() + 1
    kept = np.delete(np.arange(len(truth)), lost)
    found = neurons_of(pieces(shown))
    error, split, merge = scores(truth[kept], found[kept])
    assert error < ARAND and split < SPLIT and merge < MERGE


def test_scores_of_volumes_are_those_of_scikit_image() -> None:
    truth, found = tissue()[:10], neurons_of(pieces(tissue()[:10]), 0.5)
    overlaps = Overlaps.of_sections(zip(truth, found, strict=True))
    error, split, merge = scores(truth, found)
    assert overlaps.variation_of_information() == pytest.approx((split, merge))
    assert 1 - overlaps.adapted_rand_fscore() == pytest.approx(error)
