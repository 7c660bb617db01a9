"""P does not depend on the tiles that a section is cut into."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from taclnet_jax.inference.sections import Inference, create_inference
from taclnet_jax.models import MODELS, Network

SLICES = {'convlstm': 3, 'recurrent_unet': 3}  # others see each section alone


@cache
def trained(name: str, **changes: Any) -> tuple[Network, Any, Inference]:
    """A model at its default settings but for `changes`, made-up parameters, and inference of P."""
    model, rng, slices = MODELS[name](**changes), np.random.default_rng(0), SLICES.get(name, 1)

    def parameter(path: Any, leaf: Any) -> jax.Array:
        if path[-1].key in ('scale', 'var'):
            return jnp.asarray(rng.uniform(0.5, 1, leaf.shape), leaf.dtype)
        deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return jnp.asarray(rng.normal(0, min(deviation, 0.3), leaf.shape), leaf.dtype)

    window = jnp.zeros((1, slices, model.stride, model.stride))
    shapes = jax.eval_shape(model.init, jax.random.key(0), window)
    infer = create_inference(
        model,
        slices=slices,
        downsample=1,
        views=1,
        tile_px=model.stride,
        window_px=1024,
        window_halo_px=128,
        attention={},
    )
    return model, jax.tree_util.tree_map_with_path(parameter, shapes), infer


@pytest.mark.parametrize(
    'name',
    [pytest.param(name, marks=() if name in SLICES else pytest.mark.slow) for name in MODELS],
)
def test_tiles_give_what_the_whole_section_gives(name: str) -> None:
    check_tiles(1, *trained(name))


@pytest.mark.slow
def test_tiles_give_what_the_whole_section_gives_in_all_views() -> None:
    check_tiles(8, *trained('unet'))


@pytest.mark.slow
@pytest.mark.parametrize('name', ['unet', 'recurrent_unet'])
def test_tiles_are_normalised_as_the_whole_section_is(name: str) -> None:
    check_tiles(1, *trained(name, normalise=True))


def check_tiles(views: int, model: Network, params: Any, infer: Inference) -> None:
    stride, halo, slices = model.stride, infer.halo_px, infer.slices
    assert infer.tile_px == stride and halo - stride < model.reach_px(slices) <= halo
    # Of odd sizes, which are padded, and as narrow as the network allows.
    shape = (slices, stride + 3, 2 * halo + 5 * stride - 3 % stride)
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)

    def prob_of(image: np.ndarray, tile_px: int) -> tuple[np.ndarray, int]:
        tiling = dataclasses.replace(infer, views=views, tile_px=tile_px)
        prob = tiling.prob(params, image, slices // 2, range(slices))
        assert prob.shape == image.shape
        return prob, sum(1 for _ in tiling._tiles(shape[2], slice(0, shape[2])))

    whole, tiles = prob_of(image, 10 * stride)
    assert tiles == 1 and whole.std() > 1e-3 and np.median(abs(whole - 0.5)) < 0.49
    for strides in (1, 4) if views == 1 else (4,):
        tiled, tiles = prob_of(image, strides * stride)
        assert tiles == math.ceil((halo + 5 * stride) / (strides * stride)) > 1
        np.testing.assert_allclose(tiled, whole, atol=1e-5)


SEEN: list[tuple[int, ...]] = []


def pooling_network(stride: int, radius: int) -> Any:
    """A network in NumPy: means of squares of `stride`, smoothed with zeros beyond the border."""

    def network(params: Any, window: np.ndarray) -> np.ndarray:
        SEEN.append(window.shape)
        slices, height, width = window.shape
        squares = window.reshape(slices, height // stride, stride, width // stride, stride)
        size = (1, 2 * radius + 1, 2 * radius + 1)
        smooth = uniform_filter(squares.mean((2, 4)), size, mode='constant')
        return smooth.repeat(stride, 1).repeat(stride, 2) + window

    return network


@settings(deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    stride=st.sampled_from([1, 2, 4]),
    radius=st.integers(0, 3),
    strides=st.integers(1, 6),
    views=st.sampled_from([1, 8]),
    cuts=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_any_tile_of_any_part_of_any_section(
    size: tuple[int, int],
    stride: int,
    radius: int,
    strides: int,
    views: int,
    cuts: tuple[float, float, float, float],
) -> None:
    image = np.random.default_rng(0).normal(size=(3, *size))
    network, halo, tile = pooling_network(stride, radius), (radius + 1) * stride, strides * stride
    infer = Inference(network, None, 1.0, 3, 1, views, stride, tile, halo, 1024, 128)
    SEEN.clear()
    tiled = infer.prob(None, image, 1, range(3))
    # Windows of one shape, so that the network is compiled for no other.
    assert len({tuple(sorted(shape)) for shape in SEEN}) == 1
    shape = SEEN[0][1:]
    assert all(side % stride == 0 for side in shape) and max(shape) <= tile + 2 * halo
    # Of the section mirrored once, not of each view or tile.
    padding = [(0, 0), *((0, -side % stride) for side in size)]
    whole = network(None, np.pad(image, padding, mode='reflect'))
    np.testing.assert_allclose(tiled, whole[:, : size[0], : size[1]], atol=1e-6)
    # Of a part of it too, to the bit: tiles do not depend on what is asked for.
    ends = [
        sorted(int(c * n) for c in pair) for pair, n in zip((cuts[:2], cuts[2:]), size, strict=True)
    ]
    part = slice(ends[0][0], ends[0][1] + 1), slice(ends[1][0], ends[1][1] + 1)
    part = tuple(slice(s.start, min(s.stop, n)) for s, n in zip(part, size, strict=True))
    if all(s.stop > s.start for s in part):
        np.testing.assert_array_equal(infer.prob(None, image, 1, range(3), part), tiled[:, *part])
