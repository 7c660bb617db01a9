"""The configurations that come with the package, by name, and settings on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import ROOT

from taclnet_jax.config import differences, run_settings
from taclnet_jax.config.settings import RunSettings
from taclnet_jax.config.shipped import config_names, config_path, read_config_file
from taclnet_jax.errors import InputError


def test_all_of_configs_are_there() -> None:
    there = {path.stem for path in (ROOT / 'configs').glob('*.py')} - {'__init__'}
    assert set(config_names()) == there and {'isbi12', 'cremi', 'synthetic'} <= there


@pytest.mark.parametrize('name', config_names())
def test_each_is_a_configuration_of_a_run(name: str) -> None:
    config = read_config_file(name)
    assert run_settings(config).data.dataset in (name, name.partition('_')[0])
    assert name == 'synthetic' or differences(run_settings(config), RunSettings())


def test_a_name_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError) as caught:
        config_path('isbi21')
    assert "found 'isbi21'" in str(caught.value)
    assert all(name in str(caught.value) for name in config_names())


def test_a_name_means_the_same_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # That the raw files are not there is found after the configuration was read and changed.
    message = refused(
        '--config=isbi12', '--workdir=run', '--config.data_dir=/dev/null/raw', '--config.fold=2'
    )
    assert '/dev/null/raw' in message and not (tmp_path / 'run').exists()
    (tmp_path / 'mine.py').write_text('from taclnet_jax.config import get_config\n')
    message = refused('--config=mine.py', '--workdir=run', '--config.slices=2')
    assert 'config.slices to be one of 1, 3, 5; found 2' in message


@pytest.mark.parametrize('flags', [[], ['--config=isbi21'], ['--config', 'isbi21']])
def test_training_without_a_configuration_lists_them(
    flags: list[str], refused: Callable[..., str]
) -> None:
    message = refused('--workdir=/dev/null/run', *flags)
    assert '--config' in message and all(name in message for name in config_names())


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['crop=64'], 'config.crop to be 2 whole numbers in brackets, as in "(4, 4)"; found (64,)'),
        (['crop=(32,32,32)'], 'config.crop to be 2 whole numbers in brackets'),
        (['crop=(32.5,32)'], 'config.crop to be a whole number; found 32.5'),
        (['crop=(24,24)', 'crop=(32,32)'], 'config.crop to be 2 whole numbers in brackets'),
        (['model.hidden=("a",)'], "config.model.hidden to be a whole number; found 'a'"),
        (['fold=two'], 'two'),
        (['phase_one.epochs=1.5'], '1.5'),
        (['augment.symmetries=maybe'], 'maybe'),
        (['attention.alpha=-1'], 'config.attention.alpha to be from 0 to 1000; found -1.0'),
        (['model.name=vnet'], 'config.model.name to be one of convlstm, '),
        (['model.depth=3'], "'depth'"),
    ],
    ids=lambda x: ' '.join(x) if isinstance(x, list) else '',
)
def test_settings_on_the_command_line(
    flags: list[str], words: str, refused: Callable[..., str]
) -> None:
    changes = [f'--config.{flag}' for flag in flags]
    assert words in refused('--config=synthetic', '--workdir=/dev/null/run', *changes)
