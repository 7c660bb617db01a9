"""The modes evaluate and predict of a trained run, and all of them on a single core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from commands import Run, arguments, environment

from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.inference.cut import Cut


@pytest.mark.slow
def test_evaluate_repeats_the_scores(
    trained: Run, tmp_path: Path, run_command: Callable[..., tuple[int, str]]
) -> None:
    workdir = trained.copy(tmp_path / 'run')
    before = json.loads((workdir / 'results.json').read_text())
    (workdir / 'results.json').unlink()
    status, output = run_command('--mode=evaluate', f'--workdir={workdir}')
    assert status == 0 and '| P_hat |' in output, output
    assert json.loads((workdir / 'results.json').read_text()) == before


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Sections of odd size, one of them constant."""
    image = synthetic_volume(seed=3, shape=(5, 64, 64)).image[:, :39, :51].copy()
    image[2] = 100
    tifffile.imwrite(tmp_path / 'stack.tif', image)
    return tmp_path / 'stack.tif'


def predict(trained: Run, stack: Path, output: Path) -> list[str]:
    return [
        '--mode=predict',
        f'--workdir={trained.workdir}',
        f'--input={stack}',
        f'--output={output}',
    ]


def test_predicts_odd_sizes_and_constant_sections(
    trained: Run, stack: Path, tmp_path: Path, run_command: Callable[..., tuple[int, str]]
) -> None:
    every = ['--names=membrane,refined,attention,segments', '--dtype=float32']
    status, output = run_command(*predict(trained, stack, tmp_path / 'out'), *every)
    assert status == 0, output
    maps = {
        name: tifffile.imread(tmp_path / 'out' / f'{name}.tif')
        for name in ('membrane', 'refined', 'attention', 'segments')
    }
    assert all(array.shape == (5, 39, 51) for array in maps.values())
    for name in ('membrane', 'refined', 'attention'):
        assert maps[name].dtype == np.float32
        assert maps[name].min() >= 0 and maps[name].max() <= 1
    assert (maps['refined'] >= maps['membrane'] - 1e-6).all()
    found = json.loads((trained.workdir / 'results.json').read_text())['P_hat_closed']
    cut = Cut(found['threshold'], found['closing'])
    closed = [cut.closed(prob, None) for prob in maps['refined']]
    np.testing.assert_array_equal(maps['segments'] == 0, np.stack(closed) >= cut.threshold)
    assert (tmp_path / 'out' / 'section.png').exists()
    assert str(tmp_path / 'out' / 'segments.tif') in output


def test_a_file_in_the_place_of_predictions_is_kept(
    trained: Run, stack: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / 'file').write_text('mine')
    assert f'{tmp_path}/file' in refused(*predict(trained, stack, tmp_path / 'file'))
    assert (tmp_path / 'file').read_text() == 'mine'


def test_a_run_whose_threshold_was_not_chosen_is_evaluated_first(
    trained: Run, stack: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    workdir = trained.copy(tmp_path / 'run')
    config = json.loads((workdir / 'config.json').read_text())
    config['evaluate']['threshold_from'] = 'training'
    (workdir / 'config.json').write_text(json.dumps(config))
    (workdir / 'results.json').unlink()
    message = refused(*predict(Run(workdir, ''), stack, tmp_path / 'out'))
    assert '--mode=evaluate' in message and not (tmp_path / 'out').exists()


# --- A single core

ON_ONE_CORE = """
import os, runpy
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
runpy.run_module('taclnet_jax.main', run_name='__main__', alter_sys=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='cores cannot be chosen here')
@pytest.mark.parametrize('mode', ['train', 'predict'])  # training ends with an evaluation
def test_one_core_is_enough(mode: str, trained: Run, stack: Path, tmp_path: Path) -> None:
    short = {
        'slices': 1,
        'model__hidden': (),
        'crops_limit': 8,
        'phase_two__epochs': 1,
        'evaluate__threshold_sections': 1,
        'evaluate__test_sections': 1,
    }
    command = {
        'train': lambda: arguments(tmp_path / 'run', **short),
        'predict': lambda: predict(trained, stack, tmp_path / 'run'),
    }
    done = subprocess.run(
        [sys.executable, '-c', ON_ONE_CORE, *command[mode]()],
        env={k: v for k, v in environment().items() if k != 'NPROC'},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    made = {'train': 'results.json', 'predict': 'segments.tif'}
    assert (tmp_path / 'run' / made[mode]).exists()
