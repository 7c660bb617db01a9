"""Ways from sections of P to neurons, which `benchmarks.neurons` compares, and their constants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import skimage as ski
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from taclnet_jax.neurons import RegionGraph, agglomerate, joined, region_graph
from taclnet_jax.volumes import read_whole


class Stretch(NamedTuple):
    """Consecutive sections, `[z, y, x]`."""

    prob: NDArray[np.float32]  # P
    cells: NDArray[np.int64]  # segments of each section, numbered through
    truth: NDArray[Any]  # ids in 3-d, 0 = membrane or not labelled


Ids = NDArray[Any]
# From a stretch and constants to the neurons by each; what they share is done once, before the
# first.
Way = Callable[[Stretch, Sequence[Any]], Iterator[Ids]]


def overlap(stretch: Stretch, constants: Sequence[float]) -> Iterator[Ids]:
    """What the package does."""
    graph = region_graph(stretch.cells)
    for threshold in constants:
        yield read_whole(joined(stretch.cells, graph, agglomerate(graph, threshold)))


def linkage(stretch: Stretch, constants: Sequence[float]) -> Iterator[Ids]:
    """Single linkage by the IoU."""
    graph = region_graph(stretch.cells)
    for threshold in constants:
        yield _linked(stretch, graph, graph.iou >= threshold)


def smaller(stretch: Stretch, constants: Sequence[float]) -> Iterator[Ids]:
    """Single linkage of neighbours by the share of the smaller segment."""
    graph = region_graph(stretch.cells)
    share = graph.overlaps / graph.sizes[graph.edges].min(axis=1)
    for threshold in constants:
        yield _linked(stretch, graph, (graph.distances == 1) & (share >= threshold))


def _linked(stretch: Stretch, graph: RegionGraph, keep: NDArray[np.bool_]) -> Ids:
    size = len(graph.ids)
    pairs = coo_array((np.ones(keep.sum(), bool), graph.edges[keep].T), (size, size))
    _, component = connected_components(pairs, directed=False)
    return read_whole(joined(stretch.cells, graph, component.astype(np.uint64) + np.uint64(1)))


_QUANTILE = 'OneMinus<HistogramQuantileAffinity<RegionGraphType, {}, ScoreValue, 256>>'
WATERZ_SCORES = {
    'mean': 'OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>',
    **{f'quantile {q}': _QUANTILE.format(q) for q in (25, 50)},
}


def waterz(stretch: Stretch, constants: Sequence[tuple[str, float]]) -> Iterator[Ids]:
    """Agglomeration of grown segments by affinities, with scores that are compiled already."""
    import waterz

    fragments = np.zeros(stretch.cells.shape, np.uint64)
    for z, (prob, cells) in enumerate(zip(stretch.prob, stretch.cells, strict=True)):
        fragments[z] = ski.segmentation.watershed(prob, cells)
    offsets = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    # waterz has the affinity of a voxel with the one before it.
    affinities = np.stack([_affinity(stretch.prob, o, before=True) for o in offsets])
    for score, threshold in constants:
        (found,) = waterz.agglomerate(
            affinities,
            [threshold],
            fragments=fragments.copy(),
            scoring_function=WATERZ_SCORES[score],
            discretize_queue=256,
        )
        yield found.copy()


# (z, y, x) of affinities that join, and of those that part.
NEAR = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
FAR = ((0, 9, 0), (0, 0, 9), (0, 9, 9), (0, 9, -9), (0, 27, 0), (0, 0, 27))


def mutex(stretch: Stretch, constants: Sequence[tuple[float, float]]) -> Iterator[Ids]:
    """The mutex watershed of voxels; membranes on the way between two voxels part them."""
    import mwatershed

    near = np.stack([_affinity(stretch.prob, o) for o in NEAR])
    far = np.stack([_affinity(stretch.prob, o) for o in FAR])
    strides = [(1, 1, 1)] * len(NEAR) + [(1, 3, 3)] * len(FAR)
    for join, part in constants:
        affinities = np.concatenate([near - join, far - part]).astype(np.float64)
        yield mwatershed.agglom(affinities, [*NEAR, *FAR], strides=strides)


def _affinity(
    prob: NDArray[np.float32], offset: tuple[int, int, int], *, before: bool = False
) -> NDArray[np.float32]:
    """1 - the largest P on the line from each voxel to the one at the offset; 0 beyond the stack.

    With `before`, from the voxel at minus the offset to this one.
    """
    steps = max(map(abs, offset))
    most = prob.copy()
    here, there = _shifts(prob.shape, offset)
    for step in range(1, steps + 1):
        near, far = _shifts(prob.shape, tuple(round(o * step / steps) for o in offset))
        most[near] = np.maximum(most[near], prob[far])
    affinity = np.zeros_like(prob)
    affinity[there if before else here] = 1 - most[here]
    return affinity


def _shifts(
    shape: tuple[int, ...], offset: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Voxels whose partner at the offset is inside, and these partners."""
    sides = list(zip(shape, offset, strict=True))
    here = tuple(slice(min(max(-o, 0), n), max(n - max(o, 0), 0)) for n, o in sides)
    there = tuple(slice(min(max(o, 0), n), max(n - max(-o, 0), 0)) for n, o in sides)
    return here, there


def none(stretch: Stretch, constants: Sequence[str]) -> Iterator[Ids]:
    """Segments as they are, or each with the id of the truth that it overlaps most."""
    for constant in constants:
        if constant != 'truth':
            yield stretch.cells
            continue
        both = (stretch.cells > 0) & (stretch.truth > 0)
        size = int(stretch.cells.max()) + 1
        pairs = stretch.cells[both], stretch.truth[both].astype(np.int64)
        counts = coo_array((np.ones(both.sum(), np.int64), pairs)).tocsr()
        counts.resize((size, counts.shape[1]))
        best = np.asarray(counts.argmax(axis=1)).ravel()
        alone = best == 0
        best[alone] = np.arange(alone.sum()) + counts.shape[1]
        yield best[stretch.cells]


_STEPS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
WAYS: dict[str, tuple[Way, Sequence[Any]]] = {
    'none': (none, ('alone', 'truth')),
    'overlap': (overlap, _STEPS),
    'linkage': (linkage, (0.3, 0.4, 0.5, 0.6)),
    'smaller': (smaller, (0.5, 0.8, 0.9, 0.95)),
    'waterz': (
        waterz,
        [('mean', t) for t in (0.15, 0.2, 0.3, 0.5)]
        + [(score, t) for score in list(WATERZ_SCORES)[1:] for t in (0.05, 0.5)],
    ),
    'mutex': (mutex, ((0.3, 0.7), (0.4, 0.7), (0.5, 0.7), (0.5, 0.8), (0.6, 0.7))),
}
NEEDS = {'waterz': 'waterz', 'mutex': 'mwatershed'}
