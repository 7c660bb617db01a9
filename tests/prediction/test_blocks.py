"""Predictions in blocks: the same as of whole sections, however the work is divided."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from commands import small_settings
from networks import initialise
from scipy import ndimage

from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.inference import Cut, Model, predict_sections
from taclnet_jax.models import create_model
from taclnet_jax.prediction.predict import Options, predict_volume

SHAPE = (5, 151, 213)
CUT = Cut(0.5, 0.25)  # of the fixed threshold


@cache
def model(downsample: int = 1, **changes: Any) -> Model:
    """A network of made-up parameters, whose windows are small."""
    settings = small_settings(
        model__name='recurrent_unet',
        model__features=(4, 6),
        downsample=downsample,
        evaluate__window_px=32 // downsample * 2,
        evaluate__window_halo_px=8,
        evaluate__tile_px=64,
        **changes,
    )
    network = create_model(settings.model, settings.precision)
    variables = initialise(network, np.zeros((1, 3, 16, 16), np.float32))
    cuts = dict.fromkeys(('P', 'P_hat', 'P_closed', 'P_hat_closed'), CUT)
    return Model(settings, network, variables, 7, cuts, (40.0, 4.0, 4.0))


def image() -> np.ndarray:
    return synthetic_volume(seed=4, shape=(5, 160, 224)).image[:, : SHAPE[1], : SHAPE[2]]


@cache
def whole(downsample: int) -> dict[str, np.ndarray]:
    """P, o and P_hat of whole sections."""
    used = model(downsample)
    targets = [(z, range(SHAPE[0])) for z in range(SHAPE[0])]
    found = list(predict_sections(used.inference, used.variables, image(), targets))
    fields = {'membrane': 'prob', 'attention': 'attention', 'refined': 'refined'}
    return {name: np.stack([getattr(p, field) for p in found]) for name, field in fields.items()}


def predicted(folder: Path, used: Model, **options: Any) -> dict[str, np.ndarray]:
    folder.mkdir(exist_ok=True)
    if not (folder / 'stack.tif').exists():
        tifffile.imwrite(folder / 'stack.tif', image())
    names = ('membrane', 'refined', 'attention', 'segments')
    chosen = Options(**{'names': names, 'dtype': 'float32', 'overwrite': True} | options)
    predict_volume(used, folder, str(folder / 'stack.tif'), folder / 'out', chosen)
    return {name: tifffile.imread(folder / 'out' / f'{name}.tif') for name in names}


def same_up_to_numbers(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return all(len(np.unique(side)) == pairs.shape[1] for side in pairs)


@pytest.mark.parametrize('downsample', [1, 2])
def test_blocks_of_any_size_give_what_whole_sections_give(tmp_path: Path, downsample: int) -> None:
    used = model(downsample)
    first = predicted(tmp_path, used, block=(2, 1))
    for name, expected in whole(downsample).items():
        np.testing.assert_allclose(first[name], expected, atol=1e-5)
    for block in ((5, 2), (1, 9)):
        other = predicted(tmp_path, used, block=block)
        for name in whole(downsample):
            np.testing.assert_array_equal(other[name], first[name])
        assert same_up_to_numbers(other['segments'], first['segments'])


def test_segments_are_the_pieces_of_closed_sections(tmp_path: Path) -> None:
    segments = predicted(tmp_path, model(1), block=(2, 1))['segments']
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
