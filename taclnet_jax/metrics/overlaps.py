"""Scores of a segmentation against the true one, from the sizes of their overlaps.

All of them leave out the pixels that are 0 in the true one: its membrane, of which nobody can say
to which cell it belongs ("foreground-restricted"), and what is not labelled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taclnet_jax.metrics._arrays import of_one_shape

MIN_PIXELS, MIN_SHARE = 10, 0.05
"""Of an overlap that `false_splits_and_merges` counts."""


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

    Example:
        >>> adapted_rand_fscore([[1, 1, 1, 1]], [[1, 1, 2, 2]])  # 2 of 6 pairs
        0.5
    """
    return Overlaps.of(true, predicted).adapted_rand_fscore()


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

    Example:
        >>> variation_of_information([[1, 1, 1, 1]], [[1, 1, 2, 2]])
        (1.0, 0.0)
    """
    return Overlaps.of(true, predicted).variation_of_information()


def v_rand(true: ArrayLike, predicted: ArrayLike) -> float:
    """V_rand of the ISBI 2012 challenge: 0 to 1, higher is better.

    sum n_ij^2 / (sum n_i^2 / 2 + sum n_j^2 / 2): the adapted Rand F-score with every pixel paired
    with itself as well. The challenge scores it after thinning the predicted borders, so hand over
    `grow_segments(segments)` for its number.

    Args:
        true: true segments, integers of any shape; pixels with 0 are left out.
        predicted: predicted segments of the same shape; each pixel with 0 is a segment of its own.

    Returns:
        The score; 1 if the foreground is empty.

    Reference:
        Arganda-Carreras et al. 2015, equation 3 with alpha = 0.5.

    Example:
        >>> round(v_rand([[1, 1, 1, 1]], [[1, 1, 2, 2]]), 3)
        0.667
    """
    return Overlaps.of(true, predicted).v_rand()


def v_info(true: ArrayLike, predicted: ArrayLike) -> float:
    """V_info of the ISBI 2012 challenge: 0 to 1, higher is better.

    I(true, predicted) / (H(true) / 2 + H(predicted) / 2), the mutual information as a share of the
    mean entropy. The challenge scores it after thinning the predicted borders, so hand over
    `grow_segments(segments)` for its number.

    Args:
        true: true segments, integers of any shape; pixels with 0 are left out.
        predicted: predicted segments of the same shape; each pixel with 0 is a segment of its own.

    Returns:
        The score; 1 if both are a single segment or the foreground is empty.

    Reference:
        Arganda-Carreras et al. 2015, equation 6 with alpha = 0.5.

    Example:
        >>> round(v_info([[1, 1, 2, 2]], [[1, 1, 2, 3]]), 3)
        0.8
    """
    return Overlaps.of(true, predicted).v_info()


def false_splits_and_merges(
    true: ArrayLike,
    predicted: ArrayLike,
    *,
    min_pixels: int = MIN_PIXELS,
    min_share: float = MIN_SHARE,
) -> tuple[int, int]:
    """How often cells are cut and how often they are joined; 0 is perfect.

    A true segment that k predicted segments overlap counts k - 1 false splits, a predicted segment
    that overlaps k true ones k - 1 false merges. An overlap counts if it has at least `min_pixels`
    pixels and at least `min_share` of the smaller of its two segments: a border that is drawn a few
    pixels off is no error, a small cell that is swallowed whole is one. True and predicted segments
    that overlap nothing so much are not counted.

    Args:
        true: true segments, integers of any shape; pixels with 0 are left out.
        predicted: predicted segments of the same shape; 0 is no segment.
        min_pixels: the least size of an overlap that counts.
        min_share: its least share of the smaller segment, 0 to 1; sizes are those inside true
            cells.

    Returns:
        (false splits, false merges).

    Example:
        >>> false_splits_and_merges([[1] * 40], [[1] * 20 + [2] * 20])
        (1, 0)
    """
    return Overlaps.of(true, predicted).false_splits_and_merges(min_pixels, min_share)


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Pixels of true foreground shared by true segment i and predicted segment j.

    Its scores are those of the functions of their names.

    Attributes:
        i: number of the true segment, from 0, `[overlaps]`.
        j: number of the predicted segment, from 0, `[overlaps]`.
        both: n_ij > 0, the pixels of each overlap, float64 `[overlaps]`.
        true_sizes: n_i, predicted membrane included, float64 `[true segments]`.
        predicted_sizes: n_j, float64 `[predicted segments]`.
        membrane: pixels of i that are predicted as membrane, float64 `[true segments]`.
    """

    i: NDArray[np.intp]
    j: NDArray[np.intp]
    both: NDArray[Any]
    true_sizes: NDArray[Any]
    predicted_sizes: NDArray[Any]
    membrane: NDArray[Any]

    @staticmethod
    def of(true: ArrayLike, predicted: ArrayLike) -> Overlaps:
        """The overlaps of two segmentations, integers of one shape, 0 = membrane."""
        return Overlaps.of_sections([(true, predicted)])

    @staticmethod
    def of_sections(sections: Iterable[tuple[ArrayLike, ArrayLike]]) -> Overlaps:
        """The overlaps in a stack of (true, predicted) sections, whose numbers go through it."""
        counted = [_count(true, predicted) for true, predicted in sections]
        true, predicted, counts = map(np.concatenate, zip(*counted, strict=True))
        _, i = np.unique(true, return_inverse=True)
        true_sizes = np.bincount(i, counts)
        alone = predicted == 0
        membrane = np.bincount(i[alone], counts[alone], len(true_sizes))
        _, j = np.unique(predicted[~alone], return_inverse=True)
        i, j, both = _summed(i[~alone], j, counts[~alone])
        return Overlaps(i, j, both, true_sizes, np.bincount(j, both), membrane)

    @cached_property
    def pixels(self) -> float:
        """Pixels of the true foreground."""
        return float(self.true_sizes.sum())

    def adapted_rand_fscore(self) -> float:
        together, true, predicted = (
            float(np.sum(sizes * (sizes - 1)))
            for sizes in (self.both, self.true_sizes, self.predicted_sizes)
        )
        return 2 * together / (true + predicted) if true + predicted else 1.0

    def variation_of_information(self) -> tuple[float, float]:
        pixels = max(self.pixels, 1)
        split = np.sum(self.both * np.log2(self.true_sizes[self.i] / self.both))
        split += np.sum(self.membrane * np.log2(self.true_sizes))
        merge = np.sum(self.both * np.log2(self.predicted_sizes[self.j] / self.both))
        return float(split / pixels), float(merge / pixels)

    def v_rand(self) -> float:
        # Each pixel of membrane is a segment of one pixel, of the square 1.
        alone = self.membrane.sum()
        both, true = np.sum(self.both**2) + alone, np.sum(self.true_sizes**2)
        predicted = np.sum(self.predicted_sizes**2) + alone
        return float(2 * both / (true + predicted)) if self.pixels else 1.0

    def v_info(self) -> float:
        split, merge = self.variation_of_information()
        true = self._entropy(self.true_sizes)
        alone = self.membrane.sum() / max(self.pixels, 1)
        predicted = self._entropy(self.predicted_sizes) + alone * np.log2(max(self.pixels, 1))
        # I = (H(true) + H(predicted) - VOI) / 2. Below 1e-12 there is nothing but rounding.
        information = max(true + predicted - split - merge, 0.0)
        return float(information / (true + predicted)) if true + predicted > 1e-12 else 1.0

    def _entropy(self, sizes: NDArray[Any]) -> float:
        shares = sizes / max(self.pixels, 1)
        return float(-np.sum(shares * np.log2(shares)))

    def false_splits_and_merges(
        self, min_pixels: int = MIN_PIXELS, min_share: float = MIN_SHARE
    ) -> tuple[int, int]:
        smaller = np.minimum(self.true_sizes[self.i], self.predicted_sizes[self.j])
        counts = (self.both >= min_pixels) & (self.both >= min_share * smaller)
        cut, joined = (np.bincount(segments[counts]) for segments in (self.i, self.j))
        return int(np.maximum(cut - 1, 0).sum()), int(np.maximum(joined - 1, 0).sum())


def _count(true: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[Any], ...]:
    """(true number, predicted number, pixels) of every overlap, predicted membrane included."""
    true, predicted = of_one_shape(true, predicted)
    foreground = true != 0
    names, i = _numbered(true[foreground])
    predicted_names, j = _numbered(predicted[foreground])
    i, j, counts = _summed(i, j)
    return names[i], predicted_names[j], counts


def _numbered(names: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Names in order, and the place of each of `names` among them."""
    # Most are small numbers. Sorting 512 x 512 all the same takes three times as long, 64 ms.
    if names.size and names.dtype.kind in 'iu' and names.min() >= 0 and names.max() <= names.size:
        # Of the type of the others of a stack, which are joined with these.
        return np.arange(int(names.max()) + 1, dtype=names.dtype), names.astype(np.intp)
    found, places = np.unique(names, return_inverse=True)
    return found, places


def _summed(
    i: NDArray[np.intp], j: NDArray[np.intp], counts: NDArray[Any] | None = None
) -> tuple[NDArray[Any], ...]:
    """The different pairs of i and j, and how often each occurs or the sum of its counts."""
    columns = int(j.max(initial=0)) + 1
    pairs = i * columns + j
    if counts is None:
        pairs, counts = np.unique(pairs, return_counts=True)
    else:
        pairs, place = np.unique(pairs, return_inverse=True)
        counts = np.bincount(place, counts)
    return *np.divmod(pairs, columns), counts
