"""How well a membrane probability segments a section: DICE, adapted Rand, VOI, Betti error.

Everything here scores one section `[height, width]`; means are taken over sections afterwards.
A segmentation is an integer array, one number a segment, 0 = membrane.

The adapted Rand F-score and the variation of information follow the scoring of the ISBI 2012 and
SNEMI3D challenges (Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142) in both choices
that are easily made differently:

* Pixels of the **true** membrane are left out ("foreground-restricted"): nobody can say to which
  cell they belong.
* Each pixel of **predicted** membrane inside a true cell is a segment of its own. So a membrane
  drawn too thick is a split, which it is, and never joins cells: the merge error is 0 as long as
  no segment touches two cells. scikit-image takes all predicted 0s as one segment that spans the
  whole section, which reports merges where there are none. The functions here equal its
  functions once every predicted 0 has a number of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage import measure

from taclnet_jax.errors import InputError

HIGHER_IS_BETTER = {
    'dice': True,
    'dice_membrane': True,
    'ari': True,
    'voi': False,
    'voi_split': False,
    'voi_merge': False,
    'betti_error': False,
}
"""The keys of `section_scores`, in the order of tables, and the direction of each."""


def dice(predicted: ArrayLike, true: ArrayLike) -> float:
    """DICE coefficient of two masks, 2 |A and B| / (|A| + |B|): 0 to 1, higher is better.

    Args:
        predicted: boolean mask, any shape.
        true: boolean mask of the same shape.

    Returns:
        The coefficient; 1 if both masks are empty.
    """
    predicted, true = _same_shape(predicted, true)
    predicted, true = predicted.astype(bool), true.astype(bool)
    total = np.count_nonzero(predicted) + np.count_nonzero(true)
    return float(2 * np.count_nonzero(predicted & true) / total) if total else 1.0


def segment(prob: ArrayLike, threshold: float) -> NDArray[np.int32]:
    """Segments a section: the 4-connected components of prob < threshold.

    Args:
        prob: probability of membrane, `[height, width]`. NaN counts as membrane.
        threshold: from this probability on, a pixel is membrane.

    Returns:
        Segments numbered from 1 in the order of their first pixels, membrane 0.
    """
    # scipy's default neighbourhood in two dimensions is the four direct neighbours.
    labels, _ = ndimage.label(np.asarray(prob) < threshold, output=np.int32)
    return labels


def true_segments(membrane: ArrayLike, ids: ArrayLike | None = None) -> NDArray[np.int32]:
    """Segments of the ground truth that a segmentation of this one section can reach.

    Args:
        membrane: True where there is membrane, `[height, width]`.
        ids: instance ids of the same shape, 0 = none. An id that is cut into several pieces by
            this section becomes as many segments, since only neighbouring sections could tell
            that they belong together; ids may touch without membrane between them.

    Returns:
        Segments numbered from 1; 0 where there is membrane or no id. Without `ids`, the
        4-connected components of what is not membrane.
    """
    if ids is None:
        return segment(np.asarray(membrane, bool), 0.5)
    membrane, ids = _same_shape(membrane, ids)
    # Pieces are found before the membrane is cut out: a neck that a wide membrane mask covers
    # still joins its two ends.
    pieces = measure.label(ids, background=0, connectivity=1)
    return np.where(membrane.astype(bool), 0, pieces).astype(np.int32)


class _Overlaps(NamedTuple):
    """Pixels of true foreground shared by true segment i and predicted segment j, float64."""

    both: NDArray[np.float64]  # [overlaps]: n_ij > 0 with j not membrane
    true: NDArray[np.float64]  # [overlaps]: n_i of each
    predicted: NDArray[np.float64]  # [overlaps]: n_j of each
    true_sizes: NDArray[np.float64]  # [true segments]: n_i
    predicted_sizes: NDArray[np.float64]  # [predicted segments]: n_j
    membrane: NDArray[np.float64]  # [true segments]: pixels of i predicted as membrane


def _overlaps(true: ArrayLike, predicted: ArrayLike) -> _Overlaps:
    true, predicted = _same_shape(true, predicted)
    foreground = true != 0
    true_names, i = np.unique(true[foreground], return_inverse=True)
    predicted_names, j = np.unique(predicted[foreground], return_inverse=True)
    count_i, count_j = len(true_names), len(predicted_names)

    pairs, counts = np.unique(i * count_j + j, return_counts=True)
    i, j = np.divmod(pairs, max(count_j, 1))
    both = counts.astype(np.float64)
    true_sizes = _sums(i, both, count_i)
    predicted_sizes = _sums(j, both, count_j)

    segmented = predicted_names[j] != 0
    membrane = _sums(i[~segmented], both[~segmented], count_i)
    return _Overlaps(
        both=both[segmented],
        true=true_sizes[i[segmented]],
        predicted=predicted_sizes[j[segmented]],
        true_sizes=true_sizes,
        predicted_sizes=predicted_sizes[predicted_names != 0],
        membrane=membrane,
    )


def _sums(
    groups: NDArray[np.int64], values: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    # bincount of nothing is of integers, whatever the weights.
    return np.bincount(groups, values, count).astype(np.float64)


def adapted_rand_fscore(true: ArrayLike, predicted: ArrayLike) -> float:
    """Foreground-restricted adapted Rand F-score (ARI): 0 to 1, higher is better.

    Among the pairs of pixels that both lie in true cells, precision is the share of those
    together in a predicted segment that are together in truth, recall the converse; the score
    is their harmonic mean, 2 sum n_ij (n_ij - 1) / (sum n_i (n_i - 1) + sum n_j (n_j - 1)).

    Args:
        true: true segments, integers of any shape; pixels with 0 are left out.
        predicted: predicted segments of the same shape; each pixel with 0 stands for itself and
            so is in no pair.

    Returns:
        The score, equal to 1 - `skimage.metrics.adapted_rand_error` when every predicted 0 has
        a number of its own; 1 if there is no pair at all, as in an empty foreground.

    Reference:
        Arganda-Carreras et al. 2015; the SNEMI3D challenge. Those count a pixel's pair with
        itself, which changes the score by about one over the mean segment size.
    """
    return _fscore(_overlaps(true, predicted))


def _fscore(overlaps: _Overlaps) -> float:
    together, true, predicted = (
        float(np.sum(sizes * (sizes - 1)))
        for sizes in (overlaps.both, overlaps.true_sizes, overlaps.predicted_sizes)
    )
    return 2 * together / (true + predicted) if true + predicted else 1.0


def variation_of_information(true: ArrayLike, predicted: ArrayLike) -> tuple[float, float]:
    """Variation of information as its two parts, in bits; 0 is perfect, lower is better.

    split = H(predicted | true) grows where cells are cut, merge = H(true | predicted) where
    cells are joined; their sum is the VOI. Each is at most log2 of the number of pixels.

    Args:
        true: true segments, integers of any shape; pixels with 0 are left out.
        predicted: predicted segments of the same shape; each pixel with 0 is a segment of its
            own, so it adds to split alone.

    Returns:
        (split, merge), the two numbers of `skimage.metrics.variation_of_information(true,
        predicted, ignore_labels=[0])` when every predicted 0 has a number of its own; (0, 0) if
        the foreground is empty.

    Reference:
        Meila 2007, doi:10.1016/j.jmva.2006.11.013; Arganda-Carreras et al. 2015.
    """
    return _split_and_merge(_overlaps(true, predicted))


def _split_and_merge(overlaps: _Overlaps) -> tuple[float, float]:
    pixels = max(overlaps.true_sizes.sum(), 1)
    split = np.sum(overlaps.both * np.log2(overlaps.true / overlaps.both))
    split += np.sum(overlaps.membrane * np.log2(overlaps.true_sizes))
    merge = np.sum(overlaps.both * np.log2(overlaps.predicted / overlaps.both))
    return float(split / pixels), float(merge / pixels)


def betti_error(
    predicted_membrane: ArrayLike,
    true_membrane: ArrayLike,
    *,
    patch: int = 64,
    count: int = 100,
    seed: int = 0,
) -> float:
    """Betti error: mean absolute difference of the number of loops in random patches.

    The 1-dimensional Betti number of a patch's membrane, with a frame of membrane put around the
    patch, is the number of 4-connected pieces of cell inside it. 0 is perfect, lower is better.

    Args:
        predicted_membrane: boolean mask `[height, width]`.
        true_membrane: boolean mask of the same shape.
        patch: side of the square patches in pixels; an axis of the section that is shorter is
            taken whole.
        count: number of patches, at least 1.
        seed: draws the patches, which depend on nothing else but the section's shape: every
            system is scored on the same ones.

    Returns:
        The mean over patches, in loops.

    Reference:
        Hu et al. 2019, "Topology-Preserving Deep Image Segmentation", as in the poster.
    """
    predicted_membrane, true_membrane = _same_shape(predicted_membrane, true_membrane)
    if predicted_membrane.ndim != 2 or patch < 1 or count < 1:
        raise InputError(
            'The Betti error takes masks [height, width] and patch, count of at least 1; got '
            f'shape {predicted_membrane.shape}, patch {patch}, count {count}.'
        )
    predicted_cell, true_cell = ~predicted_membrane.astype(bool), ~true_membrane.astype(bool)
    last = np.maximum(np.array(true_cell.shape) - patch, 0)
    corners = np.random.default_rng(seed).integers(last, endpoint=True, size=(count, 2))
    differences = [
        abs(_pieces(predicted_cell, y, x, patch) - _pieces(true_cell, y, x, patch))
        for y, x in corners
    ]
    return float(np.mean(differences))


def _pieces(cell: NDArray[np.bool_], y: int, x: int, patch: int) -> int:
    _, pieces = ndimage.label(cell[y : y + patch, x : x + patch])
    return int(pieces)


def section_scores(
    prob: ArrayLike,
    membrane: ArrayLike,
    ids: ArrayLike | None = None,
    *,
    threshold: float = 0.5,
    betti_patch: int = 64,
    betti_patches: int = 100,
    seed: int = 0,
) -> dict[str, float]:
    """All scores of one section.

    Args:
        prob: predicted probability of membrane, `[height, width]`.
        membrane: true membrane, boolean, of the same shape.
        ids: true instance ids (see `true_segments`); without them, the true segments are the
            4-connected components of what is not membrane.
        threshold: a pixel is membrane from this probability on.
        betti_patch: side of the Betti error's patches, pixels.
        betti_patches: number of these patches.
        seed: draws them.

    Returns:
        The keys of `HIGHER_IS_BETTER`: dice (of the cell interior), dice_membrane, ari, voi (=
        voi_split + voi_merge; bits), betti_error (loops).

    Raises:
        InputError: if the shapes differ.
    """
    prob, membrane = _same_shape(prob, membrane)
    segments = segment(prob, threshold)
    scores = _segment_scores(segments, membrane, true_segments(membrane, ids))
    scores['betti_error'] = betti_error(
        segments == 0, membrane, patch=betti_patch, count=betti_patches, seed=seed
    )
    return scores


def _segment_scores(
    segments: NDArray[np.int32], membrane: NDArray, true: NDArray[np.int32]
) -> dict[str, float]:
    overlaps = _overlaps(true, segments)
    split, merge = _split_and_merge(overlaps)
    return {
        'dice': dice(segments != 0, ~membrane.astype(bool)),
        'dice_membrane': dice(segments == 0, membrane),
        'ari': _fscore(overlaps),
        'voi': split + merge,
        'voi_split': split,
        'voi_merge': merge,
    }


def summarise(scores: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of each score over sections.

    The standard deviation is the population's (divided by n): it describes the spread over
    these sections, which are all there are, and is 0 for a single one.

    Args:
        scores: one dictionary a section, as of `section_scores`; all with the same keys.

    Returns:
        {key: (mean, standard deviation)}.

    Raises:
        InputError: if there are no sections.
    """
    if not scores:
        raise InputError('Expected the scores of at least one section, found none.')
    values = {key: [section[key] for section in scores] for key in scores[0]}
    return {key: (float(np.mean(value)), float(np.std(value))) for key, value in values.items()}


def choose_threshold(
    probs: Sequence[ArrayLike],
    membranes: Sequence[ArrayLike],
    ids: Sequence[ArrayLike] | None,
    grid: Sequence[float],
    metric: str = 'voi',
) -> float:
    """The threshold with the best mean score. For training sections, never for those scored.

    Args:
        probs: predicted probabilities of membrane, `[sections, height, width]` or a list.
        membranes: true membranes, likewise.
        ids: true instance ids, likewise, or None.
        grid: thresholds to try.
        metric: a key of `section_scores`, the Betti error with its default patches.

    Returns:
        The best of `grid`; the earliest of those that are equally good.

    Raises:
        InputError: if the metric is unknown, or the grid or the list of sections is empty.
    """
    if metric not in HIGHER_IS_BETTER:
        raise InputError(
            f'Expected the metric to be one of {", ".join(HIGHER_IS_BETTER)}; got {metric!r}.'
        )
    if not len(grid) or not len(probs):
        raise InputError('Choosing a threshold takes at least one threshold and one section.')
    totals = np.zeros(len(grid))
    for section, (prob, membrane) in enumerate(zip(probs, membranes, strict=True)):
        prob, membrane = _same_shape(prob, membrane)
        true = true_segments(membrane, None if ids is None else ids[section])
        for k, threshold in enumerate(grid):
            segments = segment(prob, threshold)
            if metric == 'betti_error':
                totals[k] += betti_error(segments == 0, membrane)
            else:
                totals[k] += _segment_scores(segments, membrane, true)[metric]
    best = np.argmax(totals) if HIGHER_IS_BETTER[metric] else np.argmin(totals)
    return float(grid[int(best)])


def _same_shape(a: ArrayLike, b: ArrayLike) -> tuple[NDArray, NDArray]:
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise InputError(
            f'Prediction and truth must have one shape; got {a.shape} and {b.shape}. '
            'Crop or resample them to each other.'
        )
    return a, b
