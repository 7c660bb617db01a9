"""How P and P_hat become membrane: a threshold, and the closing before it."""

import sys
from typing import Any, NamedTuple

import numpy as np

from taclnet_jax import metrics
from taclnet_jax.inference.sections import SectionPrediction
from taclnet_jax.metrics.maps import MAPS


class Cut(NamedTuple):
    """How a map becomes membrane."""

    threshold: float  # from this on it is
    closing: float | None = None  # of `metrics.close_membranes`, before that; None: none is closed

    def closed(self, prob: np.ndarray, ignore: np.ndarray | None) -> np.ndarray:
        """The map to which the threshold is applied, of `prob` `[height, width]`."""
        if self.closing is None:
            return prob
        return metrics.close_membranes(prob, self.threshold, self.closing, ignore)

    def segments(self, prob: np.ndarray, ignore: np.ndarray | None = None) -> np.ndarray:
        """The 4-connected pieces of cell of `prob` `[height, width]`, int32, 0 = membrane."""
        return metrics.segment(self.closed(prob, ignore), self.threshold, ignore)


def map_of(prediction: SectionPrediction, name: str) -> np.ndarray:
    """P for the first and third of `MAPS`, P_hat for the others; not closed yet."""
    return prediction.refined if name.startswith('P_hat') else prediction.prob


def fixed_cuts(threshold: float) -> dict[str, Cut]:
    """Those of a threshold that is given; half of it closes."""
    return {
        name: Cut(threshold, threshold / 2 if name.endswith('closed') else None) for name in MAPS
    }


def known_cut(threshold: Any, closing: Any) -> Cut:
    """A cut out of JSON.

    Raises:
        TypeError, ValueError: it is something else.
    """
    return Cut(_number(threshold, 1), None if closing is None else _number(closing, 1))


def known_voxel_size(found: Any) -> tuple[float, float, float]:
    """A voxel size (z, y, x) in nm, out of JSON.

    Raises:
        TypeError, ValueError: it is something else.
    """
    z, y, x = (_number(nm, sys.float_info.max) for nm in found)
    if not min(z, y, x) > 0:
        raise ValueError(f'expected a voxel size above 0, found {found}')
    return z, y, x


def _number(value: Any, largest: float) -> float:
    """A finite number out of JSON, from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f'expected a number, found {value!r}')
    if not 0 <= value <= largest:
        raise ValueError(f'expected a number from 0 to {largest}, found {value!r}')
    return value
