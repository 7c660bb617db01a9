"""From sections of any size to P, attention and P_hat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from taclnet_jax.attention.sta import STAOutput, sta_attention
from taclnet_jax.data.normalisation import normalised
from taclnet_jax.data.resolution import doubled, halved_image
from taclnet_jax.data.windows import check_slices, read_window
from taclnet_jax.symmetry import inverse, symmetry
from taclnet_jax.volumes import Sections


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


@dataclass(frozen=True)
class Inference:
    """The prediction of a section of any size.

    Sections larger than a tile go through the network in tiles, each with a halo around it;
    topology and attention see the whole section.

    Attributes:
        network: compiled, from parameters and a normalised window `[slices, height, width]` to P of
            all its sections.
        attend: compiled, from these to the attention's output for the target.
        slices: odd number of sections in a window.
        downsample: 2 where the network sees half the resolution in y and x; attention does too.
        views: over so many of the square's symmetries P is averaged.
        tile_px, halo_px: sides in pixels.
    """

    network: Any
    attend: Any
    slices: int
    downsample: int
    views: int
    tile_px: int
    halo_px: int

    def __call__(
        self, params: Any, image: Sections, target: int, run: range
    ) -> tuple[jax.Array, STAOutput]:
        """P of the target's window, and the attention's output for the target.

        Args:
            params: of the network.
            image: `normalised` sections of the network's resolution.
            target: the section's number.
            run: the sections that its window may use.
        """
        height, width = image.shape[1:]
        tile, halo = self.tile_px, self.halo_px

        def prob_of(rows: slice, columns: slice) -> jax.Array:
            window = read_window(image, target, run, self.slices, rows, columns)
            # The same prediction, had the section lain otherwise under the microscope.
            views = (
                symmetry(self.network(params, symmetry(window, k)), inverse(k))
                for k in range(self.views)
            )
            return sum(views, start=jax.numpy.zeros(())) / self.views

        if max(height, width) <= tile:
            prob = prob_of(slice(0, height), slice(0, width))
            return prob, self.attend(prob)
        tiled = np.empty((self.slices, height, width), np.float32)
        for y in range(0, height, tile):
            for x in range(0, width, tile):
                top, left = max(y - halo, 0), max(x - halo, 0)
                rows = slice(top, min(y + tile + halo, height))
                columns = slice(left, min(x + tile + halo, width))
                inner = np.asarray(prob_of(rows, columns))[:, y - top :, x - left :]
                tiled[:, y : y + tile, x : x + tile] = inner[:, :tile, :tile]
        prob = jax.numpy.asarray(tiled)
        return prob, self.attend(prob)


def create_inference(config: Any, model: nn.Module, views: int = 1) -> Inference:
    """The inference of a run's network.

    STA has no parameters, so it is there for a network that was trained without it as well.

    Args:
        config: of the run.
        model: its network.
        views: 1 while training, `config.evaluate.views` of them afterwards.
    """

    @jax.jit
    def network(params: Any, window: jax.Array) -> jax.Array:
        logits: Any = model.apply({'params': params}, window[None])
        return jax.nn.sigmoid(logits[0])

    @jax.jit
    def attend(prob: jax.Array) -> STAOutput:
        return sta_attention(prob, **sta_options(config))

    evaluate = config.evaluate
    return Inference(
        network,
        attend,
        config.slices,
        config.downsample,
        views,
        evaluate.tile_px,
        evaluate.halo_px,
    )


def predict_sections(
    infer: Inference,
    params: Any,
    image: Sections,
    targets: Sequence[tuple[int, range]],
) -> Iterator[SectionPrediction]:
    """Predicts sections one by one, at the resolution of the image.

    Args:
        infer: of `create_inference`.
        params: of its network.
        image: `[z, y, x]` uint8.
        targets: each section's number, and the run that its window may use.
    """
    check_slices([run for _, run in targets], infer.slices)
    halves = infer.downsample == 2
    sections = normalised(halved_image(image) if halves else image)
    for section, run in targets:
        prob, output = infer(params, sections, section, run)
        target = infer.slices // 2
        maps = (prob[target], output.critical_maps[target], output.attention, output.refined)
        arrays = [np.asarray(x) for x in maps]
        if halves:
            arrays = [doubled(x, image.shape[1:]) for x in arrays]
        yield SectionPrediction(section, *arrays)
