"""From membrane to segments: numbers for the pieces of cell in a section, 0 = membrane.

Ignored pixels, which nobody labelled, are cut out first, of truth and prediction alike: whatever
lies or is predicted there neither joins segments nor makes one.
"""

from typing import Any

import numpy as np
import skimage as ski
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from taclnet_jax.metrics._arrays import masks, of_one_shape


def segment(
    prob: ArrayLike, threshold: float, ignore: ArrayLike | None = None
) -> NDArray[np.int32]:
    """Segments a section: the 4-connected components of prob < threshold.

    Args:
        prob: probability of membrane, `[height, width]`. NaN counts as membrane.
        threshold: from this probability on, a pixel is membrane.
        ignore: True where pixels are not labelled; they count as membrane.

    Returns:
        Segments numbered from 1 in the order of their first pixels, membrane 0.

    Example:
        >>> segment([[0.1, 0.9, 0.2]], threshold=0.5).tolist()
        [[1, 0, 2]]
    """
    (cell,) = masks(np.asarray(prob) < threshold, ignore=ignore, inside=False)
    # scipy's default neighbourhood in two dimensions is the four direct neighbours.
    labels: NDArray[np.int32] = ndimage.label(cell, output=np.int32)[0]
    return labels


def watershed_segments(
    prob: ArrayLike, threshold: float, ignore: ArrayLike | None = None
) -> NDArray[np.int32]:
    """Segments that touch: pieces of prob < threshold, after they have flooded the membranes.

    Floods rise along P from every piece at once and meet on its crests (the watershed from
    markers of Beucher and Meyer 1993). A piece that is nowhere below half of the threshold starts
    none: P wavers so in organelles and in membranes that are faint, and its neighbours flood it.

    Args:
        prob: probability of membrane, `[height, width]`. NaN counts as membrane.
        threshold: a piece below it, and somewhere below half of it, becomes a segment.
        ignore: True where pixels are not labelled; floods do not go there.

    Returns:
        Segments numbered from 1 in the order of their first pixels; 0 where no flood came.

    Example:
        >>> watershed_segments([[0.1, 0.8, 0.9, 0.2]], threshold=0.5).tolist()
        [[1, 1, 2, 2]]
    """
    prob, labelled = _prob_and_labelled(prob, ignore)
    markers = segment(~_deep(prob, threshold, labelled), 0.5)
    segments: NDArray[np.int32] = ski.segmentation.watershed(prob, markers, mask=labelled)
    return segments


def close_membranes(
    prob: ArrayLike, threshold: float, closing: float, ignore: ArrayLike | None = None
) -> NDArray[np.float32]:
    """P with membranes that close: 1 along the lines where `watershed_segments` meet.

    A threshold that is low enough for no membrane to have a gap draws them too thick. Here it only
    says which cells there are, and a higher one says how thick their membranes are: below that
    one, cells that `closing` tells apart stay apart, by a line of one pixel at least. Pieces that
    are below the higher one and nowhere below half of it are specks in membrane, and become 1.

    Args:
        prob: P, or P_hat, `[height, width]`. NaN counts as membrane.
        threshold: that will be applied to what is returned.
        closing: threshold of `watershed_segments`, whose segments are to stay apart.
        ignore: True where pixels are not labelled.

    Returns:
        P, and 1 where it was raised.

    Example:
        >>> close_membranes([[0.0, 0.5, 0.0]], threshold=0.6, closing=0.4).tolist()
        [[0.0, 1.0, 0.0]]
    """
    prob, labelled = _prob_and_labelled(prob, ignore)
    cells = watershed_segments(prob, closing, ignore)
    closed = prob.copy()
    for axis in (0, 1):
        c, p, out = (np.swapaxes(x, 0, axis) for x in (cells, prob, closed))
        meet = (c[:-1] != c[1:]) & (c[:-1] != 0) & (c[1:] != 0)
        # Of the two pixels beside the line, the one that is rather membrane.
        first = p[:-1] >= p[1:]
        out[:-1][meet & first] = 1
        out[1:][meet & ~first] = 1
    shallow = labelled & (closed < threshold) & ~_deep(closed, threshold, labelled)
    return np.where(shallow, np.float32(1), closed)


def _prob_and_labelled(
    prob: ArrayLike, ignore: ArrayLike | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    prob = np.nan_to_num(np.asarray(prob, np.float32), nan=1)
    (labelled,) = masks(np.ones(prob.shape, bool), ignore=ignore, inside=False)
    return prob, labelled


def _deep(
    prob: NDArray[np.float32], threshold: float, labelled: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Pieces of prob < threshold, of what is labelled, that are somewhere below half of it."""
    depth = np.where(labelled, -prob, -np.inf)
    pieces: NDArray[np.bool_] = ski.filters.apply_hysteresis_threshold(
        depth, -threshold, -threshold / 2
    )
    return pieces


def true_segments(
    membrane: ArrayLike, ids: ArrayLike | None = None, ignore: ArrayLike | None = None
) -> NDArray[np.int32]:
    """Segments of the ground truth that a segmentation of this one section can reach.

    Args:
        membrane: True where there is membrane, `[height, width]`.
        ids: instance ids of the same shape, 0 = none; see `pieces_of_ids`.
        ignore: True where pixels are not labelled.

    Returns:
        Segments numbered from 1; 0 where there is membrane, no id, or `ignore`. Without `ids`, the
        4-connected components of what is not membrane.

    Example:
        >>> true_segments([[False, True, False]], [[7, 7, 7]]).tolist()  # one cell, by its id
        [[1, 0, 1]]
    """
    if ids is None:
        return segment(np.asarray(membrane, bool), 0.5, ignore)
    membrane, ids = of_one_shape(membrane, ids)
    # Pieces are found before the membrane is cut out: a neck that a wide membrane mask covers
    # still joins its two ends.
    return np.where(membrane.astype(bool), 0, pieces_of_ids(ids, ignore))


def pieces_of_ids(ids: ArrayLike, ignore: ArrayLike | None = None) -> NDArray[np.int32]:
    """Ids as a single section shows them: the 4-connected components of equal ids.

    An id that is cut into several pieces by the section becomes as many segments, since only
    neighbouring sections could tell that they belong together. Ids may touch.

    Args:
        ids: instance ids, `[height, width]`, 0 = none.
        ignore: True where pixels are not labelled.

    Returns:
        Segments numbered from 1; 0 where there is no id or `ignore`.

    Example:
        >>> pieces_of_ids([[7, 0, 7, 9]]).tolist()
        [[1, 0, 2, 3]]
    """
    ids = np.asarray(ids)
    if ignore is not None:
        ids, ignore = of_one_shape(ids, ignore)
        ids = np.where(ignore.astype(bool), ids.dtype.type(0), ids)
    pieces: NDArray[np.intp] = ski.measure.label(ids, background=0, connectivity=1)
    return pieces.astype(np.int32)


def grow_segments(segments: ArrayLike) -> NDArray[Any]:
    """Gives every pixel of membrane to the segment nearest to it.

    Args:
        segments: `[height, width]`, 0 = membrane.

    Returns:
        Segments that touch each other; all 0 if there is no segment to grow.

    Example:
        >>> grow_segments([[1, 0, 0, 2]]).tolist()
        [[1, 1, 2, 2]]
    """
    segments = np.asarray(segments)
    if not segments.any():
        return segments.copy()
    nearest = ndimage.distance_transform_edt(
        segments == 0, return_distances=False, return_indices=True
    )
    grown: NDArray[Any] = segments[tuple(nearest)]
    return grown
