"""Bad input on the command line: one message, exit status 2, nothing half-written."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import arguments, environment, isbi12, run_on_small_disk

from taclnet_jax.mode_flags import MODES
from taclnet_jax.models.exported import shipped_names
from taclnet_jax.neurons import volume as neurons
from taclnet_jax.prediction import predict
from taclnet_jax.viewing import serving

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 48, 48)).astype(np.uint8)
LABELS = np.where(IMAGE > 50, 255, 0).astype(np.uint8)


def test_help_is_quick_and_names_modes_and_flags() -> None:
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, '-X', 'importtime', '-m', 'taclnet_jax.main', '--help'],
        env=environment(),
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - start
    assert done.returncode == 0 and seconds < 30  # far above what it takes: only a hang fails here
    of_modes = ('train', 'evaluate', 'predict', '--config', '--workdir', '--input', '--output')
    for word in (*of_modes, *shipped_names()):
        assert word in done.stdout
    assert 'jax' not in [line.split('|')[-1].strip() for line in done.stderr.splitlines()]


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        ([], '--workdir'),
        (['--workdir=x', 'stray'], "'stray'"),
        (['--workdir=x', '--mode=fly'], 'train|evaluate|predict'),
        (['--workdir=x', '--no_such_flag=1'], 'no_such_flag'),
        (['--workdir=x', '--config=no_such_file.py'], 'no_such_file.py'),
        (['--workdir=x', '--config=synthetic', '--config.foo=1'], "'foo'"),
        (['--workdir=x', '--config=synthetic', '--config.folds=1'], 'Did you mean "fold" instead'),
        (['--workdir=x', '--config=synthetic', '--config.atention.alpha=1'], "no setting 'atent"),
        (['--mode=predict', '--input=y.tif'], 'Expected --model, a name such as'),
        (['--mode=predict', '--input=y.tif', '--model=./isbi12'], 'isbi12 does not exist'),
        (['--workdir=x', '--config=synthetic', '--config.fold=two'], 'two'),
        (['--workdir=x', '--mode=evaluate'], 'x does not exist'),
        (['--workdir=gs://a/b', '--config=synthetic'], '--workdir to be a folder of this machine'),
        (['--model=s3://a/b', '--mode=predict', '--input=y.tif'], 'found the address s3://a/b'),
        (['--workdir=x', '--mode=predict', '--input=y.tif'], 'x does not exist'),
        (['--workdir=x', '--mode=predict'], '--input'),
        # Of other modes.
        (
            ['--workdir=x', '--input=y.tif', '--config=synthetic'],
            'that it takes, --config, --workdir, --distributed,',
        ),
        (['--workdir=x', '--model=isbi12'], 'found --model.'),
        (
            ['--workdir=x', '--mode=evaluate', '--distributed', '--box=0:1'],
            'found --distributed, --box.',
        ),
        (['--workdir=x', '--mode=predict', '--nodistributed'], 'found --distributed.'),
        (
            ['--workdir=x', '--mode=predict', '--join_threshold=0.2'],
            'found --join_threshold.',
        ),  # the default
        (['--workdir=x', '--mode=segment', '--names=refined'], 'found --workdir, --names.'),
        (['--workdir=x', '--mode=view', '--output=y'], 'found --workdir, --output.'),
        (
            ['--workdir=x', '--mode=export', '--config=synthetic', '--config.fold=2'],
            'found --config.',
        ),
        (['--workdir=x', '--mode=predict', '--mask_dataset=m'], 'Expected --mask'),
    ],
)
def test_flags(
    args: list[str],
    words: str,
    refused: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in refused(*args)
    assert not list(tmp_path.iterdir())


def test_modes_take_what_they_use() -> None:
    def taken(mode: str, *others: str) -> set[str]:
        return set(MODES[mode]) - {'input', 'output', *others}

    def fields(options: type) -> set[str]:
        return {field.name for field in dataclasses.fields(options)}

    assert taken('predict', 'config', 'workdir', 'model', 'dry_run') == fields(predict.Options) - {
        'block'
    }
    assert taken('segment') == fields(neurons.Options)
    assert taken('view') == set(inspect.signature(serving).parameters) - {'look'}


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'slices': 2}, 'config.slices to be one of 1, 3, 5; found 2'),
        ({'slices': 5, 'validation_sections': 5}, 'config.validation_sections'),
        ({'crop': (49, 49)}, '48 x 48'),
        ({'batch_size': 21}, 'at most 20'),
        # Sections 0 and 1 would be scored, after the training.
        ({'synthetic.shape': (8, 48, 48), 'fold': 1, 'batch_size': 1}, 'there are only 2 (from'),
        ({'perceptual_loss.weight': 1.0, 'perceptual_loss.vgg19': '/no.npz'}, '/no.npz to be an'),
        ({'dataset': 'isbi21'}, 'isbi12'),
        ({'dataset': 'isbi12', 'data_dir': '/no/such/folder'}, '/no/such/folder'),
    ],
)
def test_settings(
    changes: dict[str, object],
    words: str,
    tmp_path: Path,
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, 'sleep', lambda seconds: None)  # between downloads that fail
    assert words in refused(*arguments(tmp_path / 'run', **changes))
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_more_devices_than_the_thread_pool_carries(tmp_path: Path) -> None:
    env = environment(2) | {'NPROC': '2'}
    done = subprocess.run(
        [sys.executable, '-m', 'taclnet_jax.main', *arguments(tmp_path / 'run')],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and 'NPROC' in done.stderr, done.stderr


def test_a_batch_is_divided_evenly_over_the_devices(
    tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, 'device_count', lambda: 2)
    message = refused(*arguments(tmp_path / 'run', batch_size=9))
    assert 'config.batch_size to be a multiple of the 2 devices; found 9' in message
    message = refused(*arguments(tmp_path / 'run', batch_size=6, microbatches=2))
    assert 'the 2 devices, times 2 config.microbatches; found 6' in message


@pytest.mark.parametrize(
    ('image', 'labels', 'words'),
    [
        (IMAGE, LABELS[:, :-1], '(12, 47, 48)'),
        (IMAGE, LABELS // 2, '127'),
        (IMAGE[0], LABELS[0], 'folds'),
        (np.where(IMAGE == 7, np.nan, IMAGE / 255).astype(np.float32), LABELS, 'section'),
        (np.stack([IMAGE] * 3, -1), LABELS, '(12, 48, 48, 3)'),
    ],
    ids=['sizes differ', 'labels', 'one section', 'NaN', 'RGB'],
)
def test_stacks(
    image: np.ndarray, labels: np.ndarray, words: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert words in refused(*isbi12(tmp_path, image, labels))
    assert not (tmp_path / 'run').exists()


def test_a_file_as_workdir(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / 'run').write_text('mine')
    assert 'is a file' in refused(*arguments(tmp_path / 'run'))
    assert (tmp_path / 'run').read_text() == 'mine'


def test_a_workdir_below_a_file(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / 'file').write_text('mine')
    assert f'{tmp_path}/file' in refused(*arguments(tmp_path / 'file' / 'run'))


@pytest.mark.parametrize('name', ['run[1]', 'a*b', 'what?'])
def test_names_that_are_read_as_patterns(
    tmp_path: Path, refused: Callable[..., str], name: str
) -> None:
    assert 'without' in refused(*arguments(tmp_path / name))
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'taclnet_jax.main', *arguments(tmp_path / 'run')]
    done = run_on_small_disk(tmp_path, command, environment())
    assert done.returncode == 2, done.stderr
    assert 'The disk is full' in done.stderr and 'Traceback' not in done.stderr, done.stderr
