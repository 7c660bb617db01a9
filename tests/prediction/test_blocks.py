"""Predictions in blocks: the same as of whole sections, however the work is divided."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from made_up import CUT, image, model, predicted, same_up_to_numbers
from scipy import ndimage

from taclnet_jax.inference import predict_sections

SHAPE = (5, 151, 213)


@cache
def whole(downsample: int) -> dict[str, np.ndarray]:
    """P, o and P_hat of whole sections."""
    used = model(downsample)
    targets = [(z, range(SHAPE[0])) for z in range(SHAPE[0])]
    found = list(predict_sections(used.inference, used.variables, image(SHAPE), targets))
    fields = {'membrane': 'prob', 'attention': 'attention', 'refined': 'refined'}
    return {name: np.stack([getattr(p, field) for p in found]) for name, field in fields.items()}


@pytest.mark.slow
@pytest.mark.parametrize('downsample', [1, 2])
def test_blocks_of_any_size_give_what_whole_sections_give(tmp_path: Path, downsample: int) -> None:
    used = model(downsample)
    first = predicted(tmp_path, used, image(SHAPE), block=(2, 1))
    for name, expected in whole(downsample).items():
        np.testing.assert_allclose(first[name], expected, atol=1e-5)
    for block in ((5, 2), (1, 9)):
        other = predicted(tmp_path, used, block=block)
        for name in whole(downsample):
            np.testing.assert_array_equal(other[name], first[name])
        assert same_up_to_numbers(other['segments'], first['segments'])


@pytest.mark.slow
def test_segments_are_the_pieces_of_closed_sections(tmp_path: Path) -> None:
    segments = predicted(tmp_path, model(1), image(SHAPE), block=(2, 1))['segments']
    # Each is one piece of one section, and pieces that touch are one.
    for z, section in enumerate(segments):
        pieces, count = ndimage.label(section)
        assert same_up_to_numbers(pieces, section) and count > 20
        assert not np.intersect1d(section[section > 0], segments[z + 1 :]).size
    # Sections of one window are closed as a whole.
    large = dataclasses.replace(model(1).settings.evaluate, window_px=1024, window_halo_px=128)
    settings = dataclasses.replace(model(1).settings, evaluate=large)
    found = predicted(tmp_path, dataclasses.replace(model(1), settings=settings))
    for z in range(SHAPE[0]):
        assert same_up_to_numbers(found['segments'][z], CUT.segments(found['refined'][z]))
