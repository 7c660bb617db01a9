"""Steps without a finite loss and gradient: skipped, counted, and, if there are many, the end."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import arguments, small_settings
from poisoned import POISONS, batch, problem

from taclnet_jax.data.loader import WindowLoader
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.losses import LOSSES
from taclnet_jax.training import parallel
from taclnet_jax.training.loop import train
from taclnet_jax.training.setup import prepare
from taclnet_jax.training.state import EpochLoss
from taclnet_jax.training.watch import SKIPPED_IN_A_ROW, Watch, constant_loss, warning_of

# --- The step


@pytest.mark.parametrize('poison', POISONS)
def test_a_poisoned_step_changes_nothing_but_the_counts(poison: str) -> None:
    step, new = problem()
    first, output = step(new.to_devices(), parallel.shard(batch()))
    assert np.isfinite(output['loss']).all()
    before = first.to_host(4)
    skipped, output = step(first, parallel.shard(batch(poison, sample=1)))
    assert np.isnan(output['loss']).all()
    after = skipped.to_host(4)
    assert int(after.step) == 2
    assert (int(after.losses.updates), int(after.losses.skipped)) == (1, 1)
    assert after.losses.total == before.losses.total
    same = after.replace(step=before.step, losses=before.losses)
    jax.tree.map(np.testing.assert_array_equal, same, before)
    # The one after it is taken as if there had been none.
    one, _ = step(same.to_devices(), parallel.shard(batch(sample=2)))
    two, _ = step(before.to_devices(), parallel.shard(batch(sample=2)))
    jax.tree.map(np.testing.assert_array_equal, one.to_host(4), two.to_host(4))
    assert (one.to_host(4).variables['params']['w'] != before.variables['params']['w']).all()


def test_the_loss_of_an_epoch_is_the_mean_over_its_updates() -> None:
    losses = EpochLoss.create()
    assert np.isnan(losses.mean)
    for loss in (1.0, np.nan, 3.0, np.inf):
        losses = losses.add(jnp.float32(loss), jnp.isfinite(loss))
    assert (losses.mean, int(losses.skipped)) == (2, 2)


# --- Whole runs

PLAIN = {'attention__kind': 'none', 'phase_two__epochs': 0, 'crops_limit': 8, 'batch_size': 4}


def poison_images(monkeypatch: pytest.MonkeyPatch, bad: Callable[[int, int], bool]) -> None:
    """Makes the images of some batches NaN, by epoch and step."""
    make = WindowLoader.batch

    def batch(self: WindowLoader, epoch: int, step: int, **options: bool) -> Any:
        made = make(self, epoch, step, **options)
        return made | {'image': made['image'] * np.float32(np.nan)} if bad(epoch, step) else made

    monkeypatch.setattr(WindowLoader, 'batch', batch)


def no_constant(text: str) -> None:
    raise AssertionError(f'{text} is no JSON')


def test_skipped_steps_are_counted_and_nan_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poison_images(monkeypatch, lambda epoch, step: epoch == 2 or (epoch, step) == (0, 1))
    training = prepare(small_settings(phase_one__epochs=3, **PLAIN))
    assert training.loader.steps_per_epoch == 2
    validation = {'loss': float('nan'), 'voi': 1.0}
    state = train(training, tmp_path, lambda x: (validation, np.zeros((4, 4, 3), np.uint8)))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.variables))
    lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
    records = [json.loads(line, parse_constant=no_constant) for line in lines]
    assert [record['train/skipped_steps'] for record in records] == [1, 0, 2]
    assert [('train/loss' in record) for record in records] == [True, True, False]
    assert all('validation/voi' in r and 'validation/loss' not in r for r in records)
    assert 'no step with a finite loss' in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize('cause', ['data', 'rate'])
def test_many_in_a_row_end_a_run_with_the_crops_of_the_last(
    cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    rarely = {'evaluate__every_epochs': 99, 'checkpoint__every_epochs': 99}
    changes: dict[str, Any] = {'phase_one__epochs': SKIPPED_IN_A_ROW, **rarely, **PLAIN}
    if cause == 'data':
        poison_images(monkeypatch, lambda epoch, step: epoch >= 1)  # it has two steps
    else:
        unet = {'model__name': 'recurrent_unet', 'model__features': (4, 6)}
        changes |= unet | {'phase_one__learning_rate': 1e20}
    message = refused(*arguments(tmp_path / 'run', **changes))
    assert f'none in {SKIPPED_IN_A_ROW} steps in a row' in message
    last = 2 + SKIPPED_IN_A_ROW if cause == 'data' else 1 + SKIPPED_IN_A_ROW
    loader = prepare(small_settings(**changes)).loader
    ids = loader.batch((last - 1) // 2, (last - 1) % 2)['sample_id']
    samples = loader.samples
    assert f'step {last}, had' in message
    for i in ids:
        assert f'({samples.section[i]}, {samples.y[i]}, {samples.x[i]})' in message


def test_only_steps_in_a_row_end_a_run() -> None:
    samples = prepare(small_settings(**PLAIN)).loader.samples
    watch = Watch(samples)
    finite, skipped = {'loss': jnp.array([0.5])}, {'loss': jnp.array([np.nan])}
    for i in range(5 * SKIPPED_IN_A_ROW):
        watch.see(i, finite if i % SKIPPED_IN_A_ROW == 0 else skipped, np.array([0]))
    assert watch.mean == 0.5
    with pytest.raises(InputError, match='in a row'):
        watch.see(i, skipped, np.array([0]))
        watch.wait()


# --- A loss that says nothing


@pytest.mark.parametrize('ignored', [False, True])
@pytest.mark.parametrize('unscored', [False, True])
def test_the_loss_of_a_constant_is_the_entropy_of_the_targets(
    ignored: bool, unscored: bool
) -> None:
    membrane = np.zeros((6, 48, 48), bool)
    membrane[:, :, :12] = True
    ignore = np.zeros(membrane.shape, bool) if ignored else None
    if ignore is not None:
        ignore[:, :, 24:] = True
    volume = Volume('halves', membrane.astype(np.uint8), membrane, None, (40.0, 4.0, 4.0), ignore)
    if unscored:  # but trained on
        volume = dataclasses.replace(volume, unscored=~membrane)
    share = 0.5 if ignored else 0.25
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    samples = prepare(small_settings(**PLAIN)).loader.samples
    found = constant_loss(LOSSES['cross_entropy'], volume, samples)
    assert found == pytest.approx(entropy, rel=1e-5)
    losses = EpochLoss(np.float32(2 * found), np.int32(2), np.int32(0))
    assert 'epoch 7, ' in warning_of(losses, 7, float(losses.mean))
    assert warning_of(losses, 7, found * 1.01) == ''
