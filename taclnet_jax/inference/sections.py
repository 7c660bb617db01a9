"""From sections of any size to P, attention and P_hat."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np

from taclnet_jax.attention.sta import STAOutput, sta_attention
from taclnet_jax.cores import compiler_options
from taclnet_jax.data.normalisation import normalised
from taclnet_jax.data.resolution import doubled, halved_image
from taclnet_jax.data.windows import check_slices, read_window
from taclnet_jax.inference.windows import WindowGrid, intersection, shifted
from taclnet_jax.models import Network
from taclnet_jax.symmetry import inverse, symmetry
from taclnet_jax.volumes import Sections, section_shape


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
    around it, so that P does not depend on the tiles. Topology and attention see a section in
    windows, on a grid of its own (`WindowGrid`).

    `network` is compiled, from parameters and normalised sections `[slices, height, width]` to P of
    all of them, in turns on the local devices; `attend`, from these to the attention's output for
    the target.
    """

    network: Any
    attend: Any
    alpha: float  # weight of attention in P_hat
    slices: int  # that the network sees together, odd
    downsample: int  # 2 where the network sees half the resolution in y and x; attention does too
    views: int  # over so many of the square's symmetries P is averaged
    stride: int  # sections are mirrored up to a multiple of so many pixels, on which tiles lie too
    tile_px: int  # sides of the network's tiles in pixels, multiples of the stride
    halo_px: int
    window_px: int  # of the attention's windows
    window_halo_px: int

    def windows(self, shape: tuple[int, int]) -> WindowGrid:
        """The attention's windows of a section (height, width), as the network sees it."""
        return WindowGrid(shape, self.window_px, self.window_halo_px)

    def __call__(
        self, variables: Any, image: Sections, target: int, stretch: range
    ) -> tuple[np.ndarray, STAOutput]:
        """P of the target's window, and the attention's output for the target.

        The image is of `normalised` sections of the network's resolution, of which the window may
        use those of the stretch.
        """
        prob = self.prob(variables, image, target, stretch)
        return prob, self._attended(prob)

    def prob(
        self,
        variables: Any,
        image: Sections,
        target: int,
        stretch: range,
        part: tuple[slice, slice] | None = None,
    ) -> np.ndarray:
        """P of the sections around a target, `[slices, rows, columns]`.

        Args:
            variables, image, target, stretch: as `__call__` takes them.
            part: slices of rows and columns; the whole section if None.
        """
        height, width = section_shape(image, target)
        rows, columns = part or (slice(0, height), slice(0, width))
        prob = np.empty((self.slices, *(s.stop - s.start for s in (rows, columns))), np.float32)
        for seen_y, own_y in self._tiles(height, rows):
            for seen_x, own_x in self._tiles(width, columns):
                there = (
                    slice(seen_y.start, min(seen_y.stop, height)),
                    slice(seen_x.start, min(seen_x.stop, width)),
                )
                beyond = (0, 0), (0, seen_y.stop - there[0].stop), (0, seen_x.stop - there[1].stop)
                window = read_window(image, target, stretch, self.slices, *there)
                window = np.pad(window, beyond, mode='reflect')
                # The same prediction, had the section lain otherwise under the microscope.
                views = (
                    symmetry(self.network(variables, symmetry(window, k)), inverse(k))
                    for k in range(self.views)
                )
                tile = np.asarray(sum(views) / self.views)
                inside = shifted(own_y, seen_y), shifted(own_x, seen_x)
                prob[:, shifted(own_y, rows), shifted(own_x, columns)] = tile[:, *inside]
        return prob

    def _attended(self, prob: np.ndarray) -> STAOutput:
        """The attention's output for the target of a whole section's P."""
        whole = slice(0, prob.shape[1]), slice(0, prob.shape[2])
        grid = self.windows(prob.shape[1:])
        outputs = {w.place: self.attend(prob[:, *w.seen]) for w in grid.owners(whole)}
        if len(outputs) == 1:
            return outputs[0, 0]
        maps = {
            place: np.stack([output.attention, *output.critical_maps])
            for place, output in outputs.items()
        }

        def blended(k: int) -> np.ndarray:
            return grid.blended(whole, lambda window, inside: maps[window.place][k][inside])

        o, *critical_maps = map(blended, range(1 + self.slices))
        refined = np.clip(self.alpha * o + prob[self.slices // 2], 0, 1)
        return STAOutput(*map(jax.numpy.asarray, (refined, o, np.stack(critical_maps))))

    def _tiles(self, size: int, part: slice) -> Iterator[tuple[slice, slice]]:
        """Along a side: the tiles with pixels in a part, with their halos, and these pixels.

        They lie on a grid that begins with the section, and all are of one length, so that the
        network is compiled once: the last one is moved back to where it ends with the section.
        """
        whole = math.ceil(size / self.stride) * self.stride
        seen = min(whole, self.tile_px + 2 * self.halo_px)
        last = math.ceil((whole - seen + self.halo_px) / self.tile_px) if whole > seen else 0
        for i in range(last + 1):
            start = min(max(i * self.tile_px - self.halo_px, 0), whole - seen)
            own = slice(i * self.tile_px, (i + 1) * self.tile_px if i < last else size)
            own = intersection(own, part)
            if own.stop > own.start:
                yield slice(start, start + seen), own


def create_inference(
    network: Network,
    *,
    slices: int,
    downsample: int,
    views: int,
    tile_px: int,
    window_px: int,
    window_halo_px: int,
    attention: Mapping[str, Any],
) -> Inference:
    """The inference of a network.

    STA has no parameters, so it is there for a network that was trained without it as well.

    Args:
        network: of `create_model`.
        slices, downsample, views: see `Inference`.
        tile_px: side of a tile without its halo, rounded down to the network's stride.
        window_px, window_halo_px: see `Inference`.
        attention: keywords of `sta_attention`.
    """

    @partial(jax.jit, compiler_options=compiler_options())
    def prob_of(variables: Any, window: jax.Array) -> jax.Array:
        logits: Any = network.apply(variables, window[None])
        return jax.nn.sigmoid(logits[0])

    @jax.jit
    def attend(prob: jax.Array) -> STAOutput:
        return sta_attention(prob, **attention)

    stride = network.stride
    return Inference(
        in_turns(prob_of),
        attend,
        attention.get('alpha', 1.0),
        slices,
        downsample,
        views,
        stride,
        tile_px=max(tile_px // stride, 1) * stride,
        halo_px=math.ceil(network.reach_px(slices) / stride) * stride,
        window_px=window_px,
        window_halo_px=window_halo_px,
    )


def in_turns(network: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A compiled network whose calls take turns over the local devices.

    It returns at once, as any of JAX does, and leaves the result on the first device.
    """
    devices = jax.local_devices()
    if len(devices) == 1:
        return network
    turns = itertools.cycle(devices)

    @lru_cache(maxsize=1)
    def copies(variables: _Same) -> dict[jax.Device, Any]:
        return {device: jax.device_put(variables.value, device) for device in devices}

    def call(variables: Any, window: Any) -> jax.Array:
        device = next(turns)
        there = copies(_Same(variables))[device]
        return jax.device_put(network(there, jax.device_put(window, device)), devices[0])

    return call


@dataclass(frozen=True)
class _Same:
    """Any object, the same as itself alone."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


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
            arrays = [doubled(x, section_shape(image, section)) for x in arrays]
        yield SectionPrediction(section, *arrays)
