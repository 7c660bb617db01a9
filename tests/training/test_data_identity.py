"""A run is known by its data, not by where they lie."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import small_settings

from taclnet_jax.config import read_settings
from taclnet_jax.config.settings import RunSettings
from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.errors import InputError
from taclnet_jax.training.data_identity import check_same_data
from taclnet_jax.training.setup import Training, opened, prepare
from taclnet_jax.volumes import write_array


def test_data_that_were_moved_are_the_same_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tissue = synthetic_volume(1, (12, 48, 48))
    ids = np.asarray(tissue.ids, np.uint16)
    monkeypatch.chdir(tmp_path)

    def training(folder: str, labels: np.ndarray = ids) -> Training:
        Path(folder).mkdir(exist_ok=True)
        for name, array in (('image', tissue.image), ('labels', labels)):
            write_array(f'{folder}/{name}.tif', array, resolution_nm=(40, 4, 4))
        files = {f'custom__{name}': f'{folder}/{name}.tif' for name in ('image', 'labels')}
        return prepare(small_settings(dataset='custom', attention__kind='none', **files))

    def begin(begun: Training) -> None:
        with opened(begun, 'run'):
            pass

    begin(training('here'))
    assert read_settings('run').data.custom.image == str(tmp_path / 'here' / 'image.tif')
    moved = training('there')
    begin(moved)
    begin(training(str(tmp_path / 'there')))
    assert read_settings('run').data.custom.labels == str(tmp_path / 'there' / 'labels.tif')
    check_same_data(moved.volume, 'run')
    other = ids.copy()
    other[0, :9] = ids.max() + 1
    before = {path: path.read_bytes() for path in Path('run').glob('*.json')}
    with pytest.raises(InputError, match='the run of other data'):
        begin(training('other', other))
    assert {path: path.read_bytes() for path in Path('run').glob('*.json')} == before
    Path('run/data.json').write_text(json.dumps([]))
    with pytest.raises(InputError, match='data.json is damaged'):
        begin(moved)


def test_of_a_stack_in_memory_every_section_counts() -> None:
    volume = synthetic_volume(1, (30, 32, 32))
    known = volume.identity
    for z in range(30):
        image = np.array(volume.image)
        image[z, 3, 4] ^= 1
        assert dataclasses.replace(volume, image=image).identity != known


def test_phase_one_of_other_data_is_refused(tmp_path: Path) -> None:
    def settings(depth: int, **changes: Any) -> RunSettings:
        tissue = synthetic_volume(1, (depth, 48, 48))
        files = {}
        for name, array in (('image', tissue.image), ('labels', np.asarray(tissue.ids, np.uint16))):
            files[f'custom__{name}'] = str(tmp_path / f'{name}{depth}.tif')
            write_array(files[f'custom__{name}'], array, resolution_nm=(40, 4, 4))
        return small_settings(dataset='custom', attention__kind='none', **files, **changes)

    other = prepare(settings(24))
    with opened(other, tmp_path / 'other') as (checkpoints, state):
        steps = other.settings.training.phase_one.epochs * other.loader.steps_per_epoch
        checkpoints.save_phase_one(state.replace(step=np.array(steps, np.int32)))
    place = str(tmp_path / 'other' / 'checkpoints' / 'phase_one')
    training = prepare(settings(12, start_from=place))
    for told in ('the run of other data', 'its data were others'):
        with pytest.raises(InputError, match=told), opened(training, tmp_path / 'run'):
            pass
        # Without the sum the number of updates tells.
        (tmp_path / 'other' / 'data.json').unlink(missing_ok=True)
    assert not (tmp_path / 'run').exists()
