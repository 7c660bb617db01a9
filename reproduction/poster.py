"""The poster's tables as data, to stand beside ours.

J. Yang, X. Hu, C. Chen and C. Tsai: A Topological-Attention ConvLSTM Network and Its Application to
EM Images. Means and standard deviations are the poster's; it does not say over what the deviations
are, on which hardware the times were taken, or which sections were scored.
"""

from __future__ import annotations

from typing import NamedTuple


class Score(NamedTuple):
    """Mean and standard deviation of a metric."""

    mean: float
    std: float


Scores = dict[str, Score]
"""By metric, named as in `taclnet_jax.metrics`."""


def _scores(
    ari: tuple[float, float],
    voi: tuple[float, float],
    betti_error: tuple[float, float],
    dice: tuple[float, float] | None = None,
) -> Scores:
    scores = {'ari': Score(*ari), 'voi': Score(*voi), 'betti_error': Score(*betti_error)}
    return scores if dice is None else {'dice': Score(*dice)} | scores


def _row(
    dice: tuple[float, float],
    ari: tuple[float, float],
    voi: tuple[float, float],
    betti_error: tuple[float, float],
) -> Scores:
    return _scores(ari, voi, betti_error, dice)


TABLE_1: dict[str, dict[str, Scores]] = {
    'cremi': {
        'dive': _row((0.9542, 0.0037), (0.6532, 0.0247), (2.513, 0.047), (4.378, 0.152)),
        'unet': _row((0.9523, 0.0049), (0.6723, 0.0312), (2.346, 0.105), (3.016, 0.253)),
        'mosinska': _row((0.9489, 0.0053), (0.7853, 0.0281), (1.623, 0.083), (1.973, 0.310)),
        'topoloss': _row((0.9596, 0.0029), (0.8083, 0.0104), (1.462, 0.028), (1.113, 0.224)),
        'taclnet': _row((0.9665, 0.0008), (0.8126, 0.0153), (1.317, 0.165), (0.853, 0.183)),
    },
    'isbi12': {
        'dive': _row((0.9709, 0.0029), (0.9434, 0.0087), (1.235, 0.025), (3.187, 0.307)),
        'unet': _row((0.9699, 0.0048), (0.9338, 0.0072), (1.367, 0.031), (2.785, 0.269)),
        'mosinska': _row((0.9716, 0.0022), (0.9312, 0.0052), (0.983, 0.035), (1.238, 0.251)),
        'topoloss': _row((0.9755, 0.0041), (0.9444, 0.0076), (0.782, 0.019), (0.429, 0.104)),
        'taclnet': _row((0.9576, 0.0047), (0.9417, 0.0045), (0.771, 0.027), (0.417, 0.117)),
    },
    'isbi13': {
        'dive': _row((0.9658, 0.0020), (0.6923, 0.0134), (2.790, 0.025), (3.875, 0.326)),
        'unet': _row((0.9649, 0.0057), (0.7031, 0.0256), (2.583, 0.078), (3.463, 0.435)),
        'mosinska': _row((0.9623, 0.0047), (0.7483, 0.0367), (1.534, 0.063), (2.952, 0.379)),
        'topoloss': _row((0.9689, 0.0026), (0.8064, 0.0112), (1.436, 0.008), (1.253, 0.172)),
        'taclnet': _row((0.9510, 0.0022), (0.7943, 0.0127), (1.305, 0.016), (1.175, 0.108)),
    },
}
"""Table 1, by data set and system."""

TABLE_2: dict[str, Scores] = {
    'convlstm': _row((0.9667, 0.0007), (0.7627, 0.0132), (1.753, 0.212), (1.785, 0.254)),
    'convlstm_sta': _row((0.9663, 0.0004), (0.7957, 0.0144), (1.496, 0.156), (0.873, 0.212)),
    'taclnet': _row((0.9665, 0.0008), (0.8126, 0.0153), (1.317, 0.165), (0.853, 0.183)),
}
"""Table 2, the ablation on CREMI, by system."""

TABLE_3: dict[int, Scores] = {
    # VOI and Betti error of one section cannot be read in the copy that this was taken from.
    1: {'ari': Score(0.7813, 0.0141)},
    3: _scores((0.8126, 0.0153), (1.317, 0.165), (0.853, 0.183)),
    5: _scores((0.8076, 0.0107), (1.461, 0.125), (0.967, 0.098)),
}
"""Table 3, the number of input sections on CREMI."""

HOURS_PER_EPOCH = {1: 0.99, 3: 1.20, 5: 2.78}
"""Table 3's times of a training epoch on CREMI, by the number of input sections."""
