"""From membrane to segments: numbers for the pieces of cell in a section, 0 = membrane.

Ignored pixels, which nobody labelled, are cut out first, of truth and prediction alike: whatever
lies or is predicted there neither joins segments nor makes one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage import measure

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
    labels, _ = ndimage.label(cell, output=np.int32)
    return labels


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
    return measure.label(ids, background=0, connectivity=1).astype(np.int32)


def grow_segments(segments: ArrayLike) -> NDArray:
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
    return segments[tuple(nearest)]
