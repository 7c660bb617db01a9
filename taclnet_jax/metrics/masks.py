"""Scores of masks: DICE of an area, F of its borders, clDice of a network of thin lines."""

import numpy as np
import skimage as ski
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt

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
    precision = _share(ski.morphology.skeletonize(predicted), true)
    return _harmonic_mean(precision, _share(ski.morphology.skeletonize(true), predicted))


def boundary_f(
    predicted: ArrayLike, true: ArrayLike, ignore: ArrayLike | None = None, tolerance: float = 2
) -> float:
    """F of the borders of two masks: 0 to 1, higher is better.

    The share of the predicted border that lies within the tolerance of a true one (precision) and
    that of the true border near a predicted one (recall), as their harmonic mean. DICE cannot tell
    a border that is a pixel off, which is how far hands differ, from a membrane that is missing.

    Args:
        predicted: boolean mask `[height, width]`.
        true: boolean mask of the same shape.
        ignore: True where pixels are not labelled; they are in neither mask, which has no border
            to them.
        tolerance: in pixels.

    Returns:
        The score; 1 if both masks are without border, 0 if one of them is.

    Reference:
        Csurka et al. 2013, doi:10.5244/C.27.32.

    Example:
        >>> import numpy as np
        >>> moved, true = np.zeros((2, 9, 9), bool)
        >>> moved[3:5], true[4:6] = True, True
        >>> boundary_f(moved, true), dice(moved, true)
        (1.0, 0.5)
    """
    predicted, true = masks(predicted, true, ignore=ignore, inside=False)
    (labelled,) = masks(np.ones(true.shape, bool), ignore=ignore, inside=False)
    # A mask does not end where nobody says how it goes on.
    borders = [mask & binary_dilation(labelled & ~mask) for mask in (predicted, true)]
    near = [
        distance_transform_edt(~border) <= tolerance if border.any() else border
        for border in borders
    ]
    return _harmonic_mean(_share(borders[0], near[1]), _share(borders[1], near[0]))


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def _share(line: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    pixels = np.count_nonzero(line)
    return float(np.count_nonzero(line & mask) / pixels) if pixels else 1.0
