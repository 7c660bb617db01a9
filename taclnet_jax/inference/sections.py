"""From sections of any size to P, attention and P_hat."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from taclnet_jax.attention.sta import STAOutput, sta_attention
from taclnet_jax.data.normalisation import normalised
from taclnet_jax.data.resolution import doubled, halved_image
from taclnet_jax.data.windows import check_slices, read_window
from taclnet_jax.models import Network
from taclnet_jax.symmetry import inverse, symmetry
from taclnet_jax.volumes import Sections


class SectionPrediction(NamedTuple):
    """What the model says of one section; maps `[height, width]` in [0, 1]."""

    section: int  # its number in the volume
    prob: np.ndarray  # P
    critical_map: np.ndarray  # CP
    attention: np.ndarray  # o, without ITA, which is for training
    refined: np.ndarray  # P_hat

    @property
    def attended(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """CP, o and P_hat, as pictures of attention take them."""
        return self.critical_map, self.attention, self.refined


@dataclass(frozen=True)
class Inference:
    """The prediction of a section of any size.

    Large sections go through the network in tiles, each with a halo of all that the network can see
    around it, so that P does not depend on the tiles. Topology and attention see the whole section.

    `network` is compiled, from parameters and a normalised window `[slices, height, width]` to P of
    all its sections; `attend`, from these to the attention's output for the target.
    """

    network: Any
    attend: Any
    slices: int  # in a window, odd
    downsample: int  # 2 where the network sees half the resolution in y and x; attention does too
    views: int  # over so many of the square's symmetries P is averaged
    stride: int  # sections are mirrored up to a multiple of so many pixels, on which tiles lie too
    tile_px: int  # sides in pixels, multiples of the stride
    halo_px: int

    def __call__(
        self, variables: Any, image: Sections, target: int, stretch: range
    ) -> tuple[jax.Array, STAOutput]:
        """P of the target's window, and the attention's output for the target.

        The image is of `normalised` sections of the network's resolution, of which the window may
        use those of the stretch.
        """
        height, width = image.shape[1:]
        whole = np.empty((self.slices, height, width), np.float32)
        for seen_y, own_y, inner_y in self._tiles(height):
            for seen_x, own_x, inner_x in self._tiles(width):
                rows = slice(seen_y.start, min(seen_y.stop, height))
                columns = slice(seen_x.start, min(seen_x.stop, width))
                beyond = (0, 0), (0, seen_y.stop - rows.stop), (0, seen_x.stop - columns.stop)
                window = read_window(image, target, stretch, self.slices, rows, columns)
                window = np.pad(window, beyond, mode='reflect')
                # The same prediction, had the section lain otherwise under the microscope.
                views = (
                    symmetry(self.network(variables, symmetry(window, k)), inverse(k))
                    for k in range(self.views)
                )
                tile = np.asarray(sum(views) / self.views)
                whole[:, own_y, own_x] = tile[:, inner_y, inner_x]
        prob = jax.numpy.asarray(whole)
        return prob, self.attend(prob)

    def _tiles(self, size: int) -> Iterator[tuple[slice, slice, slice]]:
        """Along a side: a tile with its halo, its own pixels, and where these are in it.

        All are of one length, so that the network is compiled once: at the section's ends, where
        there is nothing for a halo, a tile has more pixels of its own.
        """
        strides = math.ceil(size / self.stride)
        seen = min(strides, (self.tile_px + 2 * self.halo_px) // self.stride)
        steps = math.ceil((strides - seen) * self.stride / self.tile_px)
        for i in range(steps + 1):
            start = (strides - seen) * i // max(steps, 1) * self.stride
            stop = start + seen * self.stride
            first = start + self.halo_px if i else 0
            last = stop - self.halo_px if i < steps else size
            yield slice(start, stop), slice(first, last), slice(first - start, last - start)


def create_inference(
    network: Network,
    *,
    slices: int,
    downsample: int,
    views: int,
    tile_px: int,
    attention: Mapping[str, Any],
) -> Inference:
    """The inference of a network.

    STA has no parameters, so it is there for a network that was trained without it as well.

    Args:
        network: of `create_model`.
        slices, downsample, views: see `Inference`.
        tile_px: side of a tile without its halo, rounded down to the network's stride.
        attention: keywords of `sta_attention`.
    """

    @jax.jit
    def prob_of(variables: Any, window: jax.Array) -> jax.Array:
        logits: Any = network.apply(variables, window[None])
        return jax.nn.sigmoid(logits[0])

    @jax.jit
    def attend(prob: jax.Array) -> STAOutput:
        return sta_attention(prob, **attention)

    stride = network.stride
    return Inference(
        prob_of,
        attend,
        slices,
        downsample,
        views,
        stride,
        tile_px=max(tile_px // stride, 1) * stride,
        halo_px=math.ceil(network.reach_px(slices) / stride) * stride,
    )


def predict_sections(
    infer: Inference, variables: Any, image: Sections, targets: Sequence[tuple[int, range]]
) -> Iterator[SectionPrediction]:
    """Predicts sections one by one, at the resolution of the image.

    Args:
        infer: of `create_inference`.
        variables: of its network.
        image: `[z, y, x]` uint8.
        targets: each section's number, and the stretch that its window may use.
    """
    check_slices([stretch for _, stretch in targets], infer.slices)
    halves = infer.downsample == 2
    sections = normalised(halved_image(image) if halves else image)
    for section, stretch in targets:
        prob, output = infer(variables, sections, section, stretch)
        target = infer.slices // 2
        maps = (prob[target], output.critical_maps[target], output.attention, output.refined)
        arrays = [np.asarray(x) for x in maps]
        if halves:
            arrays = [doubled(x, image.shape[1:]) for x in arrays]
        yield SectionPrediction(section, *arrays)
