"""Volumes, boxes and blocks of any size."""

from __future__ import annotations

import dataclasses
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_up import image, predicted, same_up_to_numbers, tiny
from scipy import ndimage

from taclnet_jax.attention.sta import STAOutput
from taclnet_jax.inference import Model, predict_sections


def network(variables: Any, window: np.ndarray) -> np.ndarray:
    """Sees one pixel and one section around each."""
    mean = ndimage.uniform_filter(np.asarray(window), 3, mode='constant')
    return np.asarray(1 / (1 + np.exp(-3 * mean)), np.float32)


def attend(prob: np.ndarray) -> STAOutput:
    """Is scaled by the extremes of its window."""
    found = 1 - np.asarray(prob)
    found = (found - found.min()) / max(np.ptp(found), 1e-6)
    return STAOutput(np.clip(found[1] + prob[1], 0, 1), found[1], found)


@cache
def made_up(downsample: int) -> Model:
    """NumPy in place of what would be compiled for every size."""
    used = tiny(downsample=downsample)
    used = dataclasses.replace(used)
    infer = dataclasses.replace(used.inference, network=network, attend=attend)
    vars(used)['inference'] = infer  # as its cached property would
    return used


sides = st.one_of(st.integers(8, 120), st.sampled_from([31, 33, 47, 48, 79, 80, 95, 97, 111, 112]))


@st.composite
def jobs(draw: st.DrawFn) -> dict[str, Any]:
    """A volume, a box in it, and blocks."""
    shape = draw(st.integers(3, 6)), draw(sides), draw(sides)
    box = []
    for size in shape:
        first = draw(st.integers(0, size - 1))
        box.append((first, draw(st.integers(first + 1, size))))
    block = draw(st.integers(1, 7)), draw(st.integers(1, 5))
    return {'shape': shape, 'box': box, 'block': block, 'downsample': draw(st.sampled_from([1, 2]))}


HALF = {'shape': (3, 80, 79), 'box': [(1, 2), (64, 80), (31, 33)], 'block': (2, 1), 'downsample': 1}
ODD = {'shape': (5, 97, 131), 'box': [(0, 5), (64, 97), (0, 64)], 'block': (2, 1), 'downsample': 2}


@pytest.mark.slow
@example(job=HALF)
@example(job=ODD)
@given(job=jobs())
@settings(max_examples=6, deadline=None, derandomize=True)
@pytest.mark.filterwarnings('ignore::hypothesis.errors.HypothesisWarning')
def test_maps_and_segments_do_not_depend_on_blocks(job: dict[str, Any]) -> None:
    used, stack = made_up(job['downsample']), image(job['shape'])
    with tempfile.TemporaryDirectory() as name:
        found = predicted(Path(name), used, stack, block=job['block'])
        together = predicted(Path(name), used, block=(99, 99))
        box = ','.join(f'{first}:{stop}' for first, stop in job['box'])
        names = ('membrane', 'segments')
        cut = predicted(Path(name), used, block=job['block'], box=box, names=names)
    depth = range(len(stack))
    sections = list(
        predict_sections(used.inference, used.variables, stack, [(z, depth) for z in depth])
    )
    for key, field in (('membrane', 'prob'), ('attention', 'attention'), ('refined', 'refined')):
        expected = np.stack([getattr(section, field) for section in sections])
        np.testing.assert_allclose(found[key], expected, atol=1e-5, err_msg=key)
        np.testing.assert_array_equal(found[key], together[key], err_msg=key)
    assert found['segments'].shape == stack.shape
    assert same_up_to_numbers(found['segments'], together['segments'])
    seen: set[int] = set()
    for section, together_there in zip(found['segments'], together['segments'], strict=True):
        numbers = set(np.unique(section).tolist()) - {0}
        assert not numbers & seen  # none stands for segments of two sections
        seen |= numbers
        assert same_up_to_numbers(ndimage.label(section)[0], section)
        assert len(numbers) == len(set(np.unique(together_there).tolist()) - {0})
    there = tuple(slice(first, stop) for first, stop in job['box'])
    np.testing.assert_allclose(cut['membrane'], found['membrane'][there], atol=1e-5)
    assert cut['segments'].shape == cut['membrane'].shape == tuple(s.stop - s.start for s in there)
