"""From a ConfigDict or a config.json to typed settings and back; which of them a run may change."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Run, arguments, small_config, small_settings

from taclnet_jax.config import (
    differences,
    get_config,
    read_settings,
    run_settings,
    same_run,
    to_config,
)
from taclnet_jax.config.schema import entries, flatten, from_flat
from taclnet_jax.config.settings import RunSettings
from taclnet_jax.errors import InputError

# Another value of each setting that has no choices to take one from.
OTHER: dict[str, Any] = {
    'crop': (64, 48),
    'sections': (1, 9),
    'synthetic.shape': (9, 48, 48),
    'custom.resolution_nm': (30.0, 4.0, 4.0),
}


def other_value(entry: Any) -> Any:
    if entry.key in OTHER:
        return OTHER[entry.key]
    if entry.choices:
        return next(choice for choice in entry.choices if choice != entry.value)
    if isinstance(entry.value, bool):
        return not entry.value
    if isinstance(entry.value, int):
        return entry.value + 2  # an odd one stays odd
    if isinstance(entry.value, float):
        return entry.value / 2 if entry.value else 0.25
    if isinstance(entry.value, str):
        return entry.value + 'x'
    return entry.value[::-1] if len(set(entry.value)) > 1 else (*entry.value, *entry.value, 7)[:2]


def test_a_configuration_and_its_settings_say_the_same() -> None:
    config = small_config()
    assert to_config(run_settings(config)).to_dict() == config.to_dict()
    written = json.loads(json.dumps(config.to_dict()))  # lists in place of tuples
    assert run_settings(written) == run_settings(config)


def test_the_raw_files_are_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TACLNET_DATA_DIR', '/raw')
    assert get_config().data_dir == '/raw'
    monkeypatch.delenv('TACLNET_DATA_DIR')
    assert get_config().data_dir == ''


def write(folder: Path, config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / 'config.json').write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def test_what_a_run_wrote_is_read_back(tmp_path: Path) -> None:
    folder = write(tmp_path / 'run', small_config(seed=3).to_dict())
    assert read_settings(folder) == small_settings(seed=3)


def with_key(key: str, value: Any = 1) -> dict[str, Any]:
    config = small_config().to_dict()
    block, _, name = key.rpartition('.')
    (config[block] if block else config)[name] = value
    return config


def without_key(key: str) -> dict[str, Any]:
    config = small_config().to_dict()
    block, _, name = key.rpartition('.')
    del (config[block] if block else config)[name]
    return config


@pytest.mark.parametrize(
    ('config', 'words'),
    [
        (with_key('augmentation'), 'no setting augmentation'),
        (with_key('model.depth'), 'no setting model.depth'),
        (without_key('seed'), 'found no seed'),
        (without_key('model.hidden'), 'found no model.hidden'),
        (without_key('evaluate'), 'found no evaluate.betti_patch, '),
        (small_config().to_dict() | {'crop': 64}, 'config.crop to be 2 whole numbers in brackets'),
        (with_key('model.hidden', (4, 0)), 'config.model.hidden to be from 1 to 4096; found 0'),
        (small_config().to_dict() | {'dataset': 'isbi21'}, 'config.dataset to be one of'),
        ('{"seed": 1', 'cannot be used'),
        ('[1, 2]', 'cannot be used'),
        ('[' * 10**5, 'cannot be used'),
        ('{"seed": ' * 10**5, 'cannot be used'),
        ('', 'cannot be used'),
    ],
    ids=lambda x: x if isinstance(x, str) else '',
)
def test_a_config_json_that_cannot_be_used_is_named(
    config: Any, words: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder = write(tmp_path / 'run', config)
    with pytest.raises(InputError) as caught:
        read_settings(folder)
    assert words in str(caught.value) and f'{folder}/config.json' in str(caught.value)
    assert refused('--mode=evaluate', f'--workdir={folder}') == f'taclnet: error: {caught.value}'


@pytest.mark.parametrize('value', [None, True, -1, 1e400, 'x', [], [1, 'x'], {}, {'a': 1}])
def test_any_value_of_any_setting_is_taken_or_named(value: Any, tmp_path: Path) -> None:
    for key in flatten(RunSettings()):
        config = small_config().to_dict()
        block, _, name = key.rpartition('.')
        (config[block] if block else config)[name] = value
        folder = write(tmp_path / 'run', config)
        try:
            read_settings(folder)
        except InputError as error:
            assert f'{folder}/config.json cannot be used' in str(error)
            assert key in str(error)


@pytest.mark.parametrize('value', [None, 3, 'x', [1]])
def test_what_is_no_block_of_settings_is_named(value: Any, tmp_path: Path) -> None:
    for block in {key.partition('.')[0] for key in flatten(RunSettings()) if '.' in key}:
        folder = write(tmp_path / 'run', small_config().to_dict() | {block: value})
        with pytest.raises(InputError, match=f'config.json cannot be used: .*{block}'):
            read_settings(folder)


def test_what_no_result_hangs_on_may_be_missing(tmp_path: Path) -> None:
    folder = write(tmp_path / 'run', without_key('cache_mb'))
    assert read_settings(folder) == small_settings(cache_mb=RunSettings().data.cache_mb)


@pytest.mark.parametrize('missing', ['config.json', 'folder', 'file'])
def test_a_folder_without_a_run_is_named(missing: str, tmp_path: Path) -> None:
    folder = tmp_path / 'run'
    if missing == 'config.json':
        folder.mkdir()
    elif missing == 'file':
        folder.write_text('mine')
    with pytest.raises(InputError, match=f'{folder}/config.json does not exist'):
        read_settings(folder)


def test_a_folder_in_the_place_of_config_json(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / 'config.json').mkdir()
    for command in (['--mode=evaluate', f'--workdir={tmp_path}'], arguments(tmp_path)):
        assert f'{tmp_path}/config.json to be a file, found a folder' in refused(*command)


# --- What a run may change


def keys_of(role: str) -> set[str]:
    return {entry.key for entry in entries(RunSettings()) if entry.role == role}


def test_which_settings_no_result_hangs_on() -> None:
    assert keys_of('free') == {
        'custom.image',
        'custom.labels',
        'custom.ignore',
        'data_dir',
        'mirror',
        'prepared_dir',
        'cache_mb',
        'attention.backend',
        'model.rematerialise',
        'start_from',
        'initialise_from',
        'checkpoint.every_epochs',
        'checkpoint.keep',
        'evaluate.tile_px',
        'evaluate.picture_every',
    }


def test_which_settings_only_choose_and_score_the_network() -> None:
    evaluate = {key for key in flatten(RunSettings()) if key.startswith('evaluate.')}
    free = {'evaluate.tile_px', 'evaluate.picture_every'}
    assert keys_of('scoring') == evaluate - free | {'checkpoint.best_metric'}


@pytest.mark.parametrize('entry', list(entries(RunSettings())), ids=lambda entry: entry.key)
def test_a_run_keeps_what_trains_it_and_nothing_else(entry: Any) -> None:
    there = RunSettings()
    here = from_flat(there, {entry.key: other_value(entry)})
    assert here != there
    found = differences(here, there)
    taken = same_run(here, there)
    if entry.role in ('training', 'phase_two'):
        assert [line.split(':')[0] for line in found] == [entry.key] and taken == there
        assert f'{found[0]}'.endswith(' there') and ' here, ' in found[0]
    else:
        assert not found and taken == here


def test_runs_that_share_a_phase_one_differ_in_its_later_blocks_alone() -> None:
    later = {'attention.alpha': 0.5, 'phase_two.epochs': 7, 'perceptual_loss.weight': 0.1}
    there = RunSettings()
    assert len(differences(from_flat(there, later), there)) == 3
    assert not differences(from_flat(there, later), there, in_phase_one=True)
    (found,) = differences(dataclasses.replace(there, seed=1), there, in_phase_one=True)
    assert found == 'seed: 1 here, 0 there'


def test_a_run_is_scored_anew_with_other_settings_but_stays_the_run(
    trained: Run,
    tmp_path: Path,
    run_command: Callable[..., tuple[int, str]],
    refused: Callable[..., str],
) -> None:
    workdir = trained.copy(tmp_path / 'run')
    changes = {
        'evaluate__test_sections': 2,
        'evaluate__threshold_from': 'fixed',
        'evaluate__threshold': 0.4,
        'cache_mb': 1,
    }
    status, output = run_command('--mode=evaluate', *arguments(workdir, **changes))
    assert status == 0, output
    results = json.loads((workdir / 'results.json').read_text())
    assert len(results['sections']) == 2 and results['P']['threshold'] == 0.4
    assert results['config']['cache_mb'] == 1
    # Only training writes down what the run is.
    assert (workdir / 'config.json').read_text() == (trained.workdir / 'config.json').read_text()

    message = refused('--mode=evaluate', *arguments(workdir, seed=1))
    assert 'seed: 1 here, 0 there' in message and 'Leave --config out' in message
    message = refused(*arguments(workdir, attention__alpha=0.5))
    assert 'attention.alpha: 0.5 here, 1.0 there' in message
