"""From windows of whole sections to P, attention and P_hat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from taclnet_jax.attention import STAOutput, sta_attention
from taclnet_jax.data.pipeline import section_windows
from taclnet_jax.data.volume import Volume

Inference = Callable[[Any, np.ndarray], tuple[jax.Array, STAOutput]]


class SectionPrediction(NamedTuple):
    """What the model says of one section.

    Attributes:
        section: its number in the volume.
        prob: P, `[height, width]` in [0, 1].
        critical_map: CP, likewise.
        attention: o, likewise; without ITA, which is for training.
        refined: P_hat, likewise.
    """

    section: int
    prob: np.ndarray
    critical_map: np.ndarray
    attention: np.ndarray
    refined: np.ndarray


def sta_options(config: Any) -> dict[str, Any]:
    """The keywords of `sta_attention` that the configuration sets."""
    attention = config.attention
    return {
        key: attention[key] for key in ('alpha', 'sigma', 'min_persistence', 'border', 'backend')
    }


def create_inference(config: Any, model: nn.Module) -> Inference:
    """A compiled function from parameters and a window `[slices, height, width]`.

    It returns P of all sections of the window and the attention's output for the target. STA has
    no parameters, so it is there for a network that was trained without it as well.
    """

    @jax.jit
    def infer(params: Any, window: jax.Array) -> tuple[jax.Array, STAOutput]:
        logits: Any = model.apply({'params': params}, window[None])
        prob = jax.nn.sigmoid(logits[0])
        return prob, sta_attention(prob, **sta_options(config))

    return infer


def predict_sections(
    infer: Inference, params: Any, volume: Volume, runs: Sequence[range], slices: int
) -> Iterator[SectionPrediction]:
    """Predicts the sections of `runs` one by one, on whole sections of any size."""
    target = slices // 2
    for section, window in section_windows(volume, runs, slices):
        prob, output = infer(params, window)
        yield SectionPrediction(
            section,
            np.asarray(prob[target]),
            np.asarray(output.critical_maps[target]),
            np.asarray(output.attention),
            np.asarray(output.refined),
        )
