"""The CREMI challenge's score of neuron segmentations, of a section or of a stack in 3-d."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from taclnet_jax.errors import InputError
from taclnet_jax.metrics._arrays import of_one_shape
from taclnet_jax.metrics.overlaps import Overlaps


class CremiScore(NamedTuple):
    """The CREMI score and what it is made of; lower is better in all of them, 0 perfect.

    Attributes:
        score: sqrt((voi_split + voi_merge) * adapted_rand_error).
        voi_split: H(predicted | true) in bits.
        voi_merge: H(true | predicted) in bits.
        adapted_rand_error: 1 - V_rand: pixels are paired with themselves as well.
    """

    score: float
    voi_split: float
    voi_merge: float
    adapted_rand_error: float


def cremi_score(
    true: Any, predicted: Any, resolution_nm: Sequence[float], *, border_nm: float = 25.0
) -> CremiScore:
    """The CREMI challenge's score, away from the borders of the true neurons.

    The challenge scores segmentations without gaps between neurons; of a membrane map in one
    section hand over `grow_segments(segment(prob, threshold))`. Where `predicted` is 0, each pixel
    is a segment of its own (the challenge's code takes all of them as one segment in the VOI).

    Args:
        true: neuron ids, integers `[height, width]`, or `[z, y, x]` with ids that go on from
            section to section; 0 = background or not labelled. A stack may be read lazily: it is
            asked for a section at a time.
        predicted: ids of the same shape.
        resolution_nm: voxel size (z, y, x).
        border_nm: pixels up to so far from a border of `true` in their section are left out; see
            `border_mask`.

    Returns:
        The score and its parts; 0 if nothing is left to score.

    Raises:
        InputError: the shapes differ, or are not those of a section or a stack.

    Reference:
        cremi.org/metrics; github.com/cremi/cremi_python. That takes 0 as a neuron: its background
        is the largest number there is.

    Example:
        >>> import numpy as np
        >>> ids = np.repeat([[1, 2]], 20, axis=1)
        >>> cremi_score(ids, ids, (40, 4, 4)).score
        0.0
    """
    if tuple(true.shape) != tuple(predicted.shape) or len(true.shape) not in (2, 3):
        raise InputError(
            'The CREMI score takes true and predicted ids of one shape [height, width] or '
            f'[z, y, x]; got {tuple(true.shape)} and {tuple(predicted.shape)}.'
        )
    if len(true.shape) == 2:
        true, predicted = true[None], predicted[None]

    def scored() -> Iterator[tuple[ArrayLike, ArrayLike]]:
        for z in range(len(true)):
            left_out = border_mask(true[z], resolution_nm, border_nm)
            yield np.where(left_out, 0, true[z]), predicted[z]

    overlaps = Overlaps.of_sections(scored())
    split, merge = overlaps.variation_of_information()
    error = 1 - overlaps.v_rand()
    return CremiScore(math.sqrt((split + merge) * error), split, merge, error)


def border_mask(
    ids: ArrayLike, resolution_nm: Sequence[float], border_nm: float = 25.0
) -> NDArray[np.bool_]:
    """Where a section is too close to a border to say to which neuron a pixel belongs.

    Args:
        ids: `[height, width]`; a pixel with another id among its four neighbours is a border.
        resolution_nm: voxel size (z, y, x).
        border_nm: distance from the nearest border pixel, measured between centres, up to which
            pixels are masked, themselves included.

    Returns:
        bool `[height, width]`, all False if there is no border.

    Example:
        >>> border_mask([[1, 1, 1, 2, 2, 2]], (40, 4, 4), border_nm=4).tolist()
        [[False, True, True, True, True, False]]
    """
    (ids,) = of_one_shape(ids)
    inside = np.ones(ids.shape, bool)
    for axis in (0, 1):
        rows, within = np.moveaxis(ids, axis, 0), np.moveaxis(inside, axis, 0)
        same = rows[1:] == rows[:-1]
        within[1:] &= same
        within[:-1] &= same
    if inside.all():
        return ~inside
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(inside, resolution_nm[1:])
    return distance <= border_nm
