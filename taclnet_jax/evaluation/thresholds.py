"""How thresholds and closings are chosen on sections with labels."""

from collections.abc import Mapping, Sequence

import numpy as np

from taclnet_jax import metrics
from taclnet_jax.data.volume import Volume
from taclnet_jax.inference import Cut, SectionPrediction
from taclnet_jax.inference.cut import map_of
from taclnet_jax.metrics.maps import MAPS

THRESHOLDS = tuple(np.round(np.arange(0.05, 1, 0.05), 2).tolist())
"""That are tried on sections with labels, where config.evaluate.threshold_from says so."""

CLOSINGS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""That are tried, beside none, for the pieces that closing keeps apart."""


def choose_cuts(volume: Volume, predictions: Sequence[SectionPrediction]) -> dict[str, Cut]:
    """Those of the lowest VOI on the given sections, by name.

    Closing adds to the membranes that the threshold alone makes. Were the threshold of
    closed maps free, it would rise until the lines are all that is left: they keep cells apart, and
    what is thicker only costs VOI.
    """
    cuts = {}
    for name in ('P', 'P_hat'):
        probs = {p.section: map_of(p, name) for p in predictions}
        threshold = choose_threshold(volume, probs)
        cuts[name] = Cut(threshold)
        cuts[f'{name}_closed'] = Cut(threshold, choose_closing(volume, probs, threshold))
    return {name: cuts[name] for name in MAPS}


def choose_threshold(volume: Volume, probs: Mapping[int, np.ndarray]) -> float:
    """The threshold of the lowest VOI on the given sections, `[height, width]` by number."""
    return _lowest_voi(volume, probs, THRESHOLDS)[1]


def choose_closing(
    volume: Volume, probs: Mapping[int, np.ndarray], threshold: float
) -> float | None:
    """The closing of the lowest VOI with this threshold, likewise; None where none lowers it."""

    def voi(closing: float | None) -> float:
        cut = Cut(threshold, closing)
        closed = {z: cut.closed(prob, volume.ignored(z)) for z, prob in probs.items()}
        return _lowest_voi(volume, closed, (threshold,))[0]

    return min((None, *(c for c in CLOSINGS if c < threshold)), key=voi)


def _lowest_voi(
    volume: Volume, probs: Mapping[int, np.ndarray], thresholds: Sequence[float]
) -> tuple[float, float]:
    """(VOI, threshold)."""
    membranes, ids, ignores = zip(*map(volume.labels, probs), strict=True)
    return metrics.best_over_thresholds(
        list(probs.values()), membranes, ids, thresholds, 'voi', ignores
    )
