"""The models that come with the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import ROOT

import taclnet_jax
from reproduction.models import card, results_behind
from taclnet_jax import metrics
from taclnet_jax.inference import export, load
from taclnet_jax.models.exported import SHIPPED, shipped_names
from taclnet_jax.volumes import read_stack

MODELS = pytest.mark.parametrize('name', shipped_names())


def test_there_is_one() -> None:
    assert 'isbi12' in shipped_names()


@MODELS
def test_it_is_small(name: str) -> None:
    assert (SHIPPED / name / 'model.safetensors').stat().st_size < 4e6


@MODELS
def test_its_card_and_cuts_are_those_of_results(name: str, tmp_path: Path) -> None:
    model = taclnet_jax.load(name)
    sampling, dataset = model.settings.sampling, model.settings.data.dataset
    behind = results_behind(dataset, sampling.fold, ROOT / 'results')
    assert (SHIPPED / name / 'README.md').read_text() == card(model, behind)
    if sampling.fold:
        (result,) = behind
        for map_, cut in model.chosen.items():
            assert cut == (result[map_]['threshold'], result[map_]['closing'])


@MODELS
def test_it_is_exported_again_as_it_is(name: str, tmp_path: Path) -> None:
    model, again = taclnet_jax.load(name), tmp_path / 'again'
    export(model, again, '')
    assert load(again).settings == model.settings
    parameters = 'model.safetensors'
    assert (again / parameters).read_bytes() == (SHIPPED / name / parameters).read_bytes()


@pytest.mark.slow
def test_isbi12s_cells_are_found(data_dir: Path) -> None:
    """It was trained on them: what a damaged model would not find."""
    part = np.s_[23:26, 128:384, 128:384]
    image = read_stack(data_dir / 'isbi12' / 'train-volume.tif', 'image')[part]
    membrane = read_stack(data_dir / 'isbi12' / 'train-labels.tif', 'labels')[part][1] == 0
    found = taclnet_jax.load('isbi12').predict(image)
    assert metrics.dice(found['membrane'][1] < 0.5, ~membrane) > 0.94
    cells = metrics.true_segments(membrane)
    assert metrics.adapted_rand_fscore(cells, found['segments'][1]) > 0.9
    assert sum(metrics.variation_of_information(cells, found['segments'][1])) < 0.7
