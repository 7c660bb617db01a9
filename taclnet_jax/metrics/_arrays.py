"""What every score asks of its arguments."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from taclnet_jax.errors import InputError


def of_one_shape(*arrays: Any) -> tuple[NDArray[Any], ...]:
    """The arguments as arrays; InputError if their shapes differ."""
    converted = tuple(map(np.asarray, arrays))
    shapes = [array.shape for array in converted]
    if len(set(shapes)) > 1:
        raise InputError(
            'Prediction, truth and ignored pixels must have one shape; got '
            f'{" and ".join(map(str, shapes))}. Crop or resample them to each other.'
        )
    return converted


def masks(*arrays: Any, ignore: Any, inside: bool) -> tuple[NDArray[np.bool_], ...]:
    """The arguments as boolean masks of one shape, all of them `inside` where `ignore` is True."""
    if ignore is None:
        return tuple(array.astype(bool) for array in of_one_shape(*arrays))
    *given, ignored = (array.astype(bool) for array in of_one_shape(*arrays, ignore))
    return tuple(np.where(ignored, inside, array) for array in given)
