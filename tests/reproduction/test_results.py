"""The files that finished runs leave."""

from __future__ import annotations

import json
import re
from typing import Any

import h5py
import pytest
from commands import ROOT

from reproduction.results import (
    content_of,
    influential,
    other_settings,
    read_epoch_times,
    read_results,
    run_of,
    schedule_of,
    write_result,
)
from reproduction.systems import Run, run_config
from reproduction.tables import make_tables
from taclnet_jax.config import run_settings
from taclnet_jax.config.shipped import read_config_file
from taclnet_jax.errors import InputError


def test_results_are_read_as_they_were_written(result, tmp_path):
    made = result(voi=[None, 0.5])
    assert write_result(tmp_path, made).name == 'isbi12_taclnet_fold3_seed0_slices3.json'
    assert read_results(tmp_path) == [made]
    assert [path.name for path in tmp_path.iterdir()] == ['isbi12_taclnet_fold3_seed0_slices3.json']


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda text: text[: len(text) // 2], 'is damaged'),
        (lambda text: '[]', 'found no dataset'),
        (lambda text: text.replace('"fold": 3', '"fold": "3"'), 'found no fold'),
        (lambda text: re.sub(r'"sections": \[(?=\s*2)', '"sections": [7, ', text), 'of 3 sections'),
        (lambda text: text.replace('"phase_one.epochs"', '"epochs"'), 'no phase_one.epochs'),
        (lambda text: text.replace('"config": {', '"config": {"memory": 1, '), 'unknown memory'),
        (lambda text: text.replace('"fold": 3', '"fold": 2'), 'fold2'),
        (lambda text: text.replace('"P_closed"', '"P_closing"'), 'no P_closed.scores'),
    ],
)
def test_damaged_results_are_refused_by_name(result, damage, message, tmp_path):
    path = write_result(tmp_path, result())
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=message) as error:
        read_results(tmp_path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'dataset': 'mnist'}, 'dataset of the tables, isbi12, .*; found mnist'),
        ({'system': 'resnet'}, 'system of the tables, dive, .*; found resnet'),
        ({'slices': 7}, 'slices of the tables, 1, 3, 5, .*; found 7'),
    ],
)
def test_results_that_no_table_would_show_are_refused_by_name(result, change, message, tmp_path):
    path = write_result(tmp_path, result(**change))
    with pytest.raises(InputError, match=message) as error:
        read_results(tmp_path)
    assert str(path) in str(error.value)


def test_other_settings_are_found_and_places_are_none(result):
    base, run = read_config_file('isbi12'), Run('isbi12', 'taclnet', 3, 0)
    config = run_config(base, run, {})
    made = result(settings=influential(run_settings(config)))
    base.data_dir, base.attention.backend = '/elsewhere', 'xla'
    config = run_config(base, run, {})
    assert other_settings(config, made) == []
    made['config'] |= {'phase_two.learning_rate': 1.0}
    (line,) = other_settings(config, made)
    assert line.startswith('phase_two.learning_rate: ') and line.endswith(' here, 1.0 there')


@pytest.mark.parametrize(
    'found', read_results(ROOT / 'results'), ids=lambda found: run_of(found).key
)
def test_what_the_tables_show_was_made_with_the_settings_that_systems_have(found):
    run = run_of(found)
    config = run_config(read_config_file(run.dataset), run, found['schedule'])
    assert not other_settings(config, found)


def test_the_schedule_is_that_of_most_results(result):
    def with_epochs(one: int, seed: int) -> dict[str, Any]:
        epochs = {'phase_one.epochs': one, 'phase_one.halve_every': 5, 'phase_two.epochs': 2}
        return result(seed=seed, settings=epochs)

    found = schedule_of([with_epochs(20, 0), with_epochs(8, 1), with_epochs(8, 2)])
    assert found == {'phase_one.epochs': 8, 'phase_one.halve_every': 5, 'phase_two.epochs': 2}
    assert schedule_of([]) is None


def test_times_of_an_epoch_are_of_all_numbers_of_sections(tmp_path):
    (tmp_path / 'epoch_time').mkdir()
    record = {'hardware': 'two cores', 'windows': 8, 'crop': [156, 156]}
    seconds = {'TACLNet': {'1': 36.0, '3': 72.0, '5': 108}}
    path = tmp_path / 'epoch_time' / 'two_cores.json'
    path.write_text(json.dumps(record | {'seconds': seconds}))
    times = read_epoch_times(tmp_path)
    (*_, table) = make_tables(3, 'isbi12', [], times)
    assert [e.text for e in table.body[-1]][:4] == ['two cores', 'TACLNet', '0.01 h', '0.02 h']
    path.write_text(json.dumps(record | {'seconds': {'TACLNet': {'1': 36.0}}}))
    with pytest.raises(InputError, match='two_cores.json'):
        read_epoch_times(tmp_path)


def test_files_of_cremis_layout_say_that_they_are_made_up(tmp_path):
    config = read_config_file('cremi')
    config.data_dir, config.cremi.samples = str(tmp_path), ('A',)
    (tmp_path / 'cremi').mkdir()
    for sample, made_up in (('A', False), ('B', True)):
        with h5py.File(tmp_path / 'cremi' / f'sample_{sample}_20160501.hdf', 'w') as file:
            file.attrs['synthetic'] = made_up
    assert content_of(config) == 'real'
    config.cremi.samples = ('A', 'B')
    assert content_of(config) == 'synthetic'
