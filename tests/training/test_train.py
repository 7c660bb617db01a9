"""Whole runs from the command line: what they leave behind, and that they learn."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import SAMPLES, Run, arguments, isbi12, small_settings

from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.training import parallel
from taclnet_jax.training.checkpoints import Checkpoints
from taclnet_jax.training.reporting import Reporter, read_metrics
from taclnet_jax.training.setup import prepare


def test_a_run_leaves_scores_pictures_and_metrics(trained: Run) -> None:
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
    # Of every fourth section, and of the three worst.
    voi = {
        z: s['voi']
        for z, s in zip(range(8, 12), results['P_hat_closed']['per_section'], strict=True)
    }
    drawn = sorted({8, *sorted(voi, key=lambda z: -voi[z])[:3]})
    names = [f'{what}_{z:03d}.png' for what in ('attention', 'section') for z in drawn]
    assert [p.name for p in pictures] == names and (workdir / 'report.html').exists()
    assert all(str(p) in output for p in pictures) and (workdir / 'curves.png').exists()

    records = read_metrics(workdir / 'metrics.jsonl')
    assert [r['step'] for r in records] == [3, 6, 9] and [r['phase'] for r in records] == [1, 2, 2]
    assert all('validation/voi' in r and 'train/loss' in r for r in records)
    parts = ('data', 'network', 'persistence', 'attention', 'step')
    assert all(f'time/{part}_ms' in records[-1] for part in parts)
    assert list((workdir / 'tensorboard').glob('events*'))
    assert (workdir / 'checkpoints' / 'phase_one' / '3').is_dir()


def test_the_ita_memory_is_filled(trained: Run, tmp_path: Path) -> None:
    settings = small_settings()
    checkpoints = Checkpoints(trained.copy(tmp_path / 'run'), settings.checkpoint, {})
    state = checkpoints.restore_last(prepare(settings).new)
    checkpoints.close()
    assert state is not None and state.memory is not None
    assert state.memory.current.shape == (SAMPLES, 24, 24)
    assert (state.memory.current >= 0).all() and (state.memory.previous >= 0).all()


@pytest.mark.slow
def test_rectangular_crops_train_with_ita() -> None:
    settings = small_settings(crop=(16, 24))
    training = prepare(settings)
    step, state = training.create_step(phase_two=True), training.new.to_devices()
    for index in range(2):
        state, output = step(state, parallel.shard(training.loader.batch(0, index)))
    memory = state.to_host(len(training.loader.samples)).memory
    assert memory is not None and memory.current.shape[1:] == (16, 24)
    written = (memory.current >= 0).all(axis=(1, 2))
    assert np.isfinite(output['loss']).all() and written.sum() >= 8


def test_the_moving_average_of_parameters() -> None:
    settings = small_settings(optimizer__average=0.3)
    training = prepare(settings)
    step, state = training.create_step(phase_two=False), training.new.to_devices()
    expected = training.new.variables
    for i, kept in enumerate((1 / 10, 2 / 11, 3 / 12, 0.3, 0.3)):
        state, _ = step(state, parallel.shard(training.loader.batch(0, i % 3)))
        now = parallel.unreplicate(state.replace(memory=None))
        expected = jax.tree.map(lambda a, b, d=kept: d * a + (1 - d) * b, expected, now.variables)
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), now.average, expected
        )
        assert now.final is now.average


@pytest.mark.parametrize('damage', [b'{"step": 2', b'[2]', b'{"epoch": 2}', b'\xff', b'', b'null'])
@pytest.mark.parametrize('place', [0, 1, 2])
def test_a_damaged_line_of_metrics_loses_no_other(
    damage: bytes, place: int, tmp_path: Path
) -> None:
    path = tmp_path / 'metrics.jsonl'
    lines = [json.dumps({'step': step, 'epoch': step}).encode() for step in (1, 2, 3)]
    path.write_bytes(b'\n'.join([*lines[:place], damage, *lines[place + 1 :]]) + b'\n')
    steps = [step for i, step in enumerate((1, 2, 3)) if i != place]
    assert [record['step'] for record in read_metrics(path)] == steps
    with contextlib.closing(Reporter(tmp_path, 2, 3)) as reporter:
        reporter.metrics(3, {'epoch': 3})
    assert [record['step'] for record in read_metrics(path)] == [*(s for s in steps if s < 3), 3]


@pytest.mark.slow
def test_constant_sections_train_and_are_scored(
    tmp_path: Path, run_command: Callable[..., tuple[int, str]]
) -> None:
    volume = synthetic_volume(seed=1, shape=(12, 48, 48))
    image, labels = volume.image.copy(), np.where(volume.membrane, 0, 255).astype(np.uint8)
    image[[1, 9]] = 80  # of the training and of the test sections
    labels[[2, 10]] = 255  # sections without any membrane
    status, output = run_command(*isbi12(tmp_path, image, labels))
    assert status == 0, output
    results = json.loads((tmp_path / 'run' / 'results.json').read_text())
    assert np.isfinite([list(s.values()) for s in results['P_hat']['per_section']]).all()


@pytest.mark.slow
def test_a_run_that_learns_nothing_says_so_before_its_end(
    tmp_path: Path, run_command: Callable[..., tuple[int, str]]
) -> None:
    status, output = run_command(
        *arguments(
            tmp_path / 'run',
            attention__kind='none',
            phase_one__epochs=4,
            phase_one__learning_rate=1e-9,
            phase_two__epochs=0,
        )
    )
    assert status == 0, output
    # The first validation comes too early to judge.
    assert re.findall(r'The loss of epoch (\d), [\d.]+, is not below', output) == ['2', '3', '4']


@pytest.mark.slow
def test_training_learns(tmp_path: Path, run_command: Callable[..., tuple[int, str]]) -> None:
    # No attention, threshold from training sections, AdamW, bfloat16, one slice: the other ways.
    status, output = run_command(
        *arguments(
            tmp_path / 'run',
            attention__kind='none',
            optimizer__name='adamw',
            precision='bfloat16',
            slices=1,
            validation_sections=1,
            phase_one__epochs=8,
            evaluate__every_epochs=5,
            evaluate__threshold_from='training',
            evaluate__threshold_sections=2,
            evaluate__test_sections=1,
        )
    )
    assert status == 0, output
    losses = [r['train/loss'] for r in read_metrics(tmp_path / 'run' / 'metrics.jsonl')]
    assert losses[-1] < 0.8 * losses[0]
