"""Whole runs from the command line: training, interruption, resuming, evaluation, prediction."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tifffile
from commands import arguments, isbi12, run, small_config, start

from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.inference.cut import Cut
from taclnet_jax.models import create_model
from taclnet_jax.training.checkpoints import Checkpoints
from taclnet_jax.training.reporting import read_metrics
from taclnet_jax.training.state import TrainState, create_optimizer, create_train_state

SAMPLES = 5 * 4  # sections 0-4, four crops each
STEPS_PER_EPOCH = 3


def final_state(workdir: Path) -> TrainState:
    """What the last checkpoint of a small run holds."""
    config = small_config()
    optimizer = create_optimizer(config, STEPS_PER_EPOCH)
    template = create_train_state(config, create_model(config), optimizer, SAMPLES)
    checkpoints = Checkpoints(workdir, config)
    state = checkpoints.restore_last(template)
    checkpoints.close()
    assert state is not None
    return state


def assert_identical(one: Any, two: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, two)


def wait_for(path: Path, process: Any) -> None:
    for _ in range(1200):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    raise TimeoutError(f'{path} did not appear.')


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run and what it printed."""
    workdir = tmp_path_factory.mktemp('runs') / 'whole'
    status, output = run(*arguments(workdir))
    assert status == 0, output
    return workdir, output


def test_a_run_leaves_scores_pictures_and_metrics(trained: tuple[Path, str]) -> None:
    workdir, output = trained
    results = json.loads((workdir / 'results.json').read_text())
    assert results['sections'] == [8, 9, 10, 11]
    for name in ('P', 'P_hat'):
        assert len(results[name]['per_section']) == 4
        assert 0 <= results[name]['mean']['dice'] <= 1
        assert results[name]['mean']['dice'] == pytest.approx(
            np.mean([scores['dice'] for scores in results[name]['per_section']])
        )
    assert '| P_hat |' in output and str(workdir / 'results.json') in output
    pictures = sorted((workdir / 'pictures').glob('*.png'))
    assert [p.name for p in pictures] == ['attention_008.png', 'section_008.png']
    assert all(str(p) in output for p in pictures) and (workdir / 'curves.png').exists()

    records = read_metrics(workdir / 'metrics.jsonl')
    assert [r['step'] for r in records] == [3, 6, 9] and [r['phase'] for r in records] == [1, 2, 2]
    assert all('validation/voi' in r and 'train/loss' in r for r in records)
    parts = ('data', 'network', 'persistence', 'attention', 'step')
    assert all(f'time/{part}_ms' in records[-1] for part in parts)
    assert list((workdir / 'tensorboard').glob('events*'))
    assert (workdir / 'checkpoints' / 'phase_one' / '3').is_dir()


def test_the_ita_memory_is_filled(trained: tuple[Path, str]) -> None:
    memory = final_state(trained[0]).memory
    assert memory is not None and memory.current.shape == (SAMPLES, 24, 24)
    assert (memory.current >= 0).all() and (memory.previous >= 0).all()


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_run_ends_with_the_same_bits(
    number: signal.Signals, trained: tuple[Path, str], tmp_path: Path
) -> None:
    workdir = tmp_path / 'run'
    process = start(*arguments(workdir))
    wait_for(workdir / 'checkpoints' / 'last' / str(STEPS_PER_EPOCH), process)
    time.sleep(random.uniform(0, 4))
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    if number == signal.SIGTERM and process.returncode != 0:  # else the run was done by then
        assert process.returncode == 128 + signal.SIGTERM, output
        assert 'Start the same command again' in output
    status, output = run(*arguments(workdir))
    assert status == 0, output
    assert_identical(final_state(workdir), final_state(trained[0]))
    steps = [record['step'] for record in read_metrics(workdir / 'metrics.jsonl')]
    assert steps == sorted(set(steps)) and steps[-1] == 9


def test_a_run_goes_on_with_another_number_of_devices(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    workdir = tmp_path / 'run'
    shutil.copytree(trained[0], workdir)
    for step in (6, 9):
        shutil.rmtree(workdir / 'checkpoints' / 'last' / str(step))
    status, output = run(*arguments(workdir), devices=2)
    assert status == 0 and 'Going on from step 3' in output, output
    got, expected = final_state(workdir), final_state(trained[0])
    assert int(got.step) == int(expected.step)
    # Sums over two devices are rounded differently.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), got.params, expected.params
    )
    assert np.abs(got.memory.current - expected.memory.current).mean() < 0.02


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    workdir = tmp_path / 'run'
    shutil.copytree(trained[0], workdir)
    damaged = workdir / 'checkpoints' / 'last' / '9'
    for path in damaged.rglob('*'):
        if path.is_file() and path.stat().st_size > 100:
            os.truncate(path, path.stat().st_size // 2)
    status, output = run(*arguments(workdir))
    assert status == 0, output
    assert f'{damaged} cannot be read' in output and 'Going on from step 6' in output
    assert_identical(final_state(workdir), final_state(trained[0]))


def test_phase_one_is_shared(trained: tuple[Path, str], tmp_path: Path) -> None:
    phase_one = trained[0] / 'checkpoints' / 'phase_one'
    shared = f'--config.start_from={phase_one}'
    status, output = run(*arguments(tmp_path / 'shared'), shared)
    assert status == 0 and 'Going on from step 3' in output, output
    assert_identical(final_state(tmp_path / 'shared'), final_state(trained[0]))
    status, output = run(*arguments(tmp_path / 'other', seed=1), shared)
    assert status == 2 and 'seed: 1 here, 0 there' in output


def test_evaluate_repeats_the_scores(trained: tuple[Path, str], tmp_path: Path) -> None:
    workdir = tmp_path / 'run'
    shutil.copytree(trained[0], workdir)
    before = json.loads((workdir / 'results.json').read_text())
    (workdir / 'results.json').unlink()
    status, output = run('--mode=evaluate', f'--workdir={workdir}')
    assert status == 0 and '| P_hat |' in output, output
    assert json.loads((workdir / 'results.json').read_text()) == before


def test_another_configuration_in_the_workdir_is_refused(trained: tuple[Path, str]) -> None:
    status, output = run(*arguments(trained[0], attention__alpha=0.5))
    assert status == 2 and 'attention.alpha: 0.5 here, 1.0 there' in output, output
    assert 'Traceback' not in output


def test_predicts_odd_sizes_and_constant_sections(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    image = synthetic_volume(seed=3, shape=(5, 64, 64)).image[:, :39, :51].copy()
    image[2] = 100
    tifffile.imwrite(tmp_path / 'stack.tif', image)
    status, output = run(
        '--mode=predict',
        f'--workdir={trained[0]}',
        f'--input={tmp_path / "stack.tif"}',
        f'--output={tmp_path / "out"}',
    )
    assert status == 0, output
    maps = {
        name: tifffile.imread(tmp_path / 'out' / f'{name}.tif')
        for name in ('membrane', 'refined', 'attention', 'segments')
    }
    assert all(array.shape == image.shape for array in maps.values())
    for name in ('membrane', 'refined', 'attention'):
        assert maps[name].dtype == np.float32
        assert maps[name].min() >= 0 and maps[name].max() <= 1
    assert (maps['refined'] >= maps['membrane'] - 1e-6).all()
    found = json.loads((trained[0] / 'results.json').read_text())['P_hat_closed']
    cut = Cut(found['threshold'], found['closing'])
    closed = [cut.closed(prob, None) for prob in maps['refined']]
    np.testing.assert_array_equal(maps['segments'] == 0, np.stack(closed) >= cut.threshold)
    assert (tmp_path / 'out' / 'attention.png').exists()

    (tmp_path / 'file').write_text('mine')
    status, output = run(
        '--mode=predict',
        f'--workdir={trained[0]}',
        f'--input={tmp_path / "stack.tif"}',
        f'--output={tmp_path / "file"}',
    )
    assert status == 2 and f'{tmp_path}/file' in output and 'Traceback' not in output, output


def test_a_damaged_best_checkpoint_is_named(trained: tuple[Path, str], tmp_path: Path) -> None:
    workdir = tmp_path / 'run'
    shutil.copytree(trained[0], workdir)
    (best,) = (workdir / 'checkpoints' / 'best').glob('[0-9]*')
    for path in (best / 'params').rglob('*'):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    status, output = run('--mode=evaluate', f'--workdir={workdir}')
    assert status == 2 and f'{best} cannot be read' in output and 'Traceback' not in output, output


def test_constant_sections_train_and_are_scored(tmp_path: Path) -> None:
    volume = synthetic_volume(seed=1, shape=(12, 48, 48))
    image, labels = volume.image.copy(), np.where(volume.membrane, 0, 255).astype(np.uint8)
    image[[1, 9]] = 80  # of the training and of the test sections
    labels[[2, 10]] = 255  # sections without any membrane
    status, output = run(*isbi12(tmp_path, image, labels))
    assert status == 0, output
    results = json.loads((tmp_path / 'run' / 'results.json').read_text())
    assert np.isfinite([list(s.values()) for s in results['P_hat']['per_section']]).all()


def test_training_learns(tmp_path: Path) -> None:
    # No attention, threshold from training sections, AdamW, bfloat16, one slice: the other ways.
    status, output = run(
        *arguments(
            tmp_path / 'run',
            attention__kind='none',
            optimizer__name='adamw',
            precision='bfloat16',
            slices=1,
            validation_sections=1,
            phase_one__epochs=8,
            evaluate__threshold_from='training',
        )
    )
    assert status == 0, output
    losses = [r['train/loss'] for r in read_metrics(tmp_path / 'run' / 'metrics.jsonl')]
    assert losses[-1] < 0.8 * losses[0]
