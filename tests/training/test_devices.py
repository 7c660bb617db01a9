"""ITA, losses, skipped steps and large windows on one, two and four devices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import environment
from device_workers import ITA_EPOCHS, ita, ita_problem, losses, predicted
from poisoned import POISONS

from taclnet_jax.attention.sta import sta_attention
from taclnet_jax.symmetry import inverse, symmetry
from taclnet_jax.training.state import NO_HISTORY


def work(devices: int, folder: Path, *names: str) -> list[list[np.ndarray]]:
    """What workers give, in a process of so many devices; a hang ends after four minutes."""
    script = Path(__file__).with_name('device_workers.py')
    done = subprocess.run(
        [sys.executable, str(script), str(folder), *names],
        env=environment(devices),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    arrays = []
    for name in names:
        with np.load(folder / f'{name}.npz') as file:
            arrays.append(list(file.values()))
    return arrays


@pytest.fixture(scope='module')
def expected() -> list[np.ndarray]:
    """The recurrence o_t = beta o_{t-1} + (1 - beta) o_t by sample, written out in NumPy."""
    training, state = ita_problem()
    loader, attention = training.loader, training.settings.attention
    beta = attention.beta

    @jax.jit
    def apply(image: jax.Array) -> jax.Array:
        prob = jax.nn.sigmoid(training.network.apply(state.variables, image))
        return sta_attention(prob, **attention.options).attention

    memory = np.full((len(loader.samples), *loader.samples.crop), NO_HISTORY, np.float32)
    epochs, drawn_twice = [], 0
    for epoch in range(ITA_EPOCHS):
        before = memory.copy()
        drawn: set[int] = set()
        for i in range(loader.steps_per_epoch):
            batch = loader.batch(epoch, i)
            now = np.asarray(apply(batch['image']))
            for o, sample, k in zip(now, batch['sample_id'], batch['symmetry'], strict=True):
                o = symmetry(o, inverse(int(k)))
                drawn_twice += int(sample) in drawn
                drawn.add(int(sample))
                known = before[sample, 0, 0] != NO_HISTORY
                memory[sample] = beta * before[sample] + (1 - beta) * o if known else o
        epochs.append(memory.copy())
    assert drawn_twice > 0  # or the test would not see that an entry changes once an epoch
    assert all((m.max((1, 2)) > 0).mean() > 0.5 for m in epochs)  # there is attention
    return epochs


def check_ita(got: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for memory, recurrence in zip(got, expected, strict=True):
        np.testing.assert_allclose(memory, recurrence, atol=1e-4)


def check_skipped(states: list[np.ndarray]) -> None:
    """What is not finite on one device is skipped on all."""
    *arrays, skipped = states
    leaves = len(arrays) // (2 * len(POISONS))
    assert (skipped == len(POISONS)).all()
    for i in range(0, len(arrays), 2 * leaves):
        for before, after in zip(
            arrays[i : i + leaves], arrays[i + leaves : i + 2 * leaves], strict=True
        ):
            np.testing.assert_array_equal(before, after)


def test_ita_follows_the_recurrence(expected: list[np.ndarray]) -> None:
    check_ita(ita(), expected)


@pytest.mark.slow
def test_two_devices(expected: list[np.ndarray], tmp_path: Path) -> None:
    names = 'ita', 'skipped', 'mapped', 'losses', 'predicted'
    got, states, mapped, two, (prob, devices) = work(2, tmp_path, *names)
    check_ita(got, expected)
    check_skipped(states)
    # jax.pmap and shard_map are the same to the bit.
    for one, other in zip(mapped[: len(mapped) // 2], mapped[len(mapped) // 2 :], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(two, losses(), rtol=1e-4)
    np.testing.assert_allclose(prob, predicted()[0], rtol=1e-5)
    assert devices == 2


@pytest.mark.slow
def test_ita_and_windows_of_512_on_four_devices(expected: list[np.ndarray], tmp_path: Path) -> None:
    got, (loss, memory) = work(4, tmp_path, 'ita', 'large')
    check_ita(got, expected)
    assert np.isfinite(loss).all()
    assert memory.shape == (5, 512, 512) and (memory >= 0).all()
