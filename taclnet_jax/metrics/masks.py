"""Scores of masks: DICE of an area, clDice of a network of thin lines."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.morphology import skeletonize

from taclnet_jax.metrics._arrays import masks


def dice(predicted: ArrayLike, true: ArrayLike, ignore: ArrayLike | None = None) -> float:
    """DICE coefficient of two masks, 2 |A and B| / (|A| + |B|): 0 to 1, higher is better.

    Args:
        predicted: boolean mask, any shape.
        true: boolean mask of the same shape.
        ignore: True where pixels are not labelled; they are in neither mask.

    Returns:
        The coefficient; 1 if both masks are empty.

    Example:
        >>> round(dice([True, True, False], [True, False, False]), 3)
        0.667
    """
    predicted, true = masks(predicted, true, ignore=ignore, inside=False)
    total = np.count_nonzero(predicted) + np.count_nonzero(true)
    return float(2 * np.count_nonzero(predicted & true) / total) if total else 1.0


def cl_dice(predicted: ArrayLike, true: ArrayLike, ignore: ArrayLike | None = None) -> float:
    """Centre line DICE of two masks: 0 to 1, higher is better.

    The share of the prediction's skeleton inside the true mask (topology precision) and the share
    of the true skeleton inside the predicted mask (topology sensitivity), as their harmonic mean.
    How thick the membranes are hardly matters, a gap or a false branch does by its length.

    Args:
        predicted: boolean mask `[height, width]`.
        true: boolean mask of the same shape.
        ignore: True where pixels are not labelled; they are in neither mask, so that skeletons
            end there.

    Returns:
        The score; 1 if both masks are empty, 0 if one of them is.

    Reference:
        Shit et al. 2021, doi:10.1109/CVPR46437.2021.01629. Skeletons are scikit-image's, as in the
        authors' code.

    Example:
        >>> import numpy as np
        >>> thin, thick = np.zeros((2, 9, 9), bool)
        >>> thin[4], thick[3:6] = True, True
        >>> round(cl_dice(thick, thin), 2), dice(thick, thin)
        (0.93, 0.5)
    """
    predicted, true = masks(predicted, true, ignore=ignore, inside=False)
    precision = _share(skeletonize(predicted), true)
    sensitivity = _share(skeletonize(true), predicted)
    total = precision + sensitivity
    return 2 * precision * sensitivity / total if total else 0.0


def _share(skeleton: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    pixels = np.count_nonzero(skeleton)
    return float(np.count_nonzero(skeleton & mask) / pixels) if pixels else 1.0
