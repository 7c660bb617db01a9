"""Runs that were interrupted end with the bits of one that was not."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from commands import Run, arguments, environment, run, small_settings

from taclnet_jax.config import to_config
from taclnet_jax.errors import InputError
from taclnet_jax.evaluation.scoring import Validation
from taclnet_jax.main import train_and_evaluate
from taclnet_jax.training.checkpoints import Checkpoints, best_variables
from taclnet_jax.training.reporting import Reporter, read_metrics
from taclnet_jax.training.setup import prepare
from taclnet_jax.training.state import TrainState

pytestmark = pytest.mark.usefixtures('without_pictures', 'compiled_once')

# So that all that these runs compile can be loaded by the next one: callbacks cannot.
FAST = {
    'attention__backend': 'xla',
    'evaluate__threshold_sections': 1,
    'evaluate__test_sections': 1,
}


def final_state(workdir: Path) -> TrainState:
    """What the last checkpoint of a small run holds."""
    settings = small_settings(**FAST)
    checkpoints = Checkpoints(workdir, settings.checkpoint, to_config(settings).to_dict())
    state = checkpoints.restore_last(prepare(settings).new)
    checkpoints.close()
    assert state is not None
    return state


@pytest.fixture(scope='module')
def whole(
    tmp_path_factory: pytest.TempPathFactory, without_pictures: None, compiled_once: None
) -> Run:
    """A run that nothing interrupts."""
    workdir = tmp_path_factory.mktemp('whole') / 'run'
    status, output = run(*arguments(workdir, **FAST))
    assert status == 0, output
    return Run(workdir, output)


@pytest.fixture(scope='module')
def expected(whole: Run, tmp_path_factory: pytest.TempPathFactory) -> TrainState:
    """Its end."""
    return final_state(whole.copy(tmp_path_factory.mktemp('copy') / 'run'))


def assert_same(one: Any, two: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, two)


def assert_ends_the_same(workdir: Path, expected: TrainState) -> str:
    """Starts the command again; what it prints."""
    status, output = run(*arguments(workdir, **FAST))
    assert status == 0, output
    assert_same(final_state(workdir), expected)
    steps = [record['step'] for record in read_metrics(workdir / 'metrics.jsonl')]
    assert steps == [3, 6, 9]
    assert not list((workdir / 'checkpoints').rglob('*tmp*'))
    return output


def assert_reports_the_same(workdir: Path, whole: Run) -> None:
    """An interrupted epoch has the loss of all of it."""
    one, two = (
        [(r['train/loss'], r['train/skipped_steps']) for r in read_metrics(d / 'metrics.jsonl')]
        for d in (workdir, whole.workdir)
    )
    assert one == two


def last_steps(workdir: Path) -> list[int]:
    return sorted(int(path.name) for path in (workdir / 'checkpoints' / 'last').glob('[0-9]'))


# What is about to get its name when the process is killed that goes on after the one before was,
# and the last step that can be saved then. Steps 1-3 are of phase one, 4-6 and 7-9 of phase two; a
# checkpoint and a validation follow each.
MOMENTS = {
    'when phase one ends': ('checkpoints/phase_one/3.orbax-checkpoint-tmp', 0),
    'when the best is exchanged': ('checkpoints/best/', 3),
    'when a checkpoint is half there': ('checkpoints/last/6.orbax-checkpoint-tmp/variables.', 3),
    'when a checkpoint is there but for its name': ('checkpoints/last/6.', 3),
}


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_same_bits(
    whole: Run, expected: TrainState, tmp_path: Path
) -> None:
    workdir, before = tmp_path / 'run', 0
    script = str(Path(__file__).with_name('killed.py'))
    for moment, (where, latest) in MOMENTS.items():
        done = subprocess.run(
            [sys.executable, script, where, *arguments(workdir, **FAST)],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == -signal.SIGKILL, f'{moment}: {done.stderr}'
        assert (f'Going on from step {before} of 9' in done.stdout + done.stderr) == (before > 0)
        # Saving goes on in the background: the one before may not be there yet.
        steps = last_steps(workdir)
        assert before <= (steps[-1] if steps else 0) <= latest, moment
        before = steps[-1] if steps else 0
    assert before > 0
    assert_ends_the_same(workdir, expected)
    assert_reports_the_same(workdir, whole)


def at_call(function: Callable[..., Any], number: int, *signals: int) -> Callable[..., Any]:
    """The function, which sends signals to this process in the call of this number."""
    left = iter(range(number - 1, -1, -1))

    def counted(*args: Any, **options: Any) -> Any:
        if next(left, None) == 0:
            for each in signals:
                signal.raise_signal(each)
        return function(*args, **options)

    return counted


def stop(workdir: Path, where: tuple[type, str], number: int, *signals: signal.Signals) -> str:
    """Starts the command, which gets signals in a call of that number; what it prints."""
    before = signal.getsignal(signals[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*where, at_call(getattr(*where), number, *signals))
        status, output = run(*arguments(workdir, **FAST))
    assert status == 128 + signals[0], output
    assert signal.getsignal(signals[0]) == before
    return output


def assert_saved(workdir: Path, output: str, step: int) -> None:
    assert f'Stopped at step {step} of 9, and saved. Start the same command again' in output
    assert last_steps(workdir)[-1] == step


def test_a_stopped_run_saves_and_ends_with_the_same_bits(
    whole: Run, expected: TrainState, tmp_path: Path
) -> None:
    workdir = tmp_path / 'run'
    # In the middle of an epoch.
    assert_saved(workdir, stop(workdir, (Reporter, 'step'), 5, signal.SIGTERM), 5)
    assert 'Going on from step 5 of 9.' in assert_ends_the_same(workdir, expected)
    assert_reports_the_same(workdir, whole)


@pytest.mark.slow
def test_a_run_stopped_again_and_again_ends_with_the_same_bits(
    whole: Run, expected: TrainState, tmp_path: Path
) -> None:
    workdir = tmp_path / 'run'
    # At the end of an epoch.
    assert_saved(workdir, stop(workdir, (Reporter, 'step'), 3, signal.SIGINT), 3)
    # In a validation, that of step 6.
    output = stop(workdir, (Validation, '__call__'), 1, signal.SIGTERM)
    assert 'Going on from step 3 of 9.' in output
    assert_saved(workdir, output, 6)
    # A second signal ends it at once.
    output = stop(workdir, (Reporter, 'step'), 2, signal.SIGTERM, signal.SIGTERM)
    assert 'Going on from step 6 of 9.' in output and 'Stopped by SIGTERM.' in output
    assert last_steps(workdir)[-1] == 6
    assert 'Going on from step 6 of 9.' in assert_ends_the_same(workdir, expected)
    assert_reports_the_same(workdir, whole)


@pytest.mark.slow
def test_a_second_training_is_refused_and_readers_are_not_noticed(
    expected: TrainState, tmp_path: Path, refused: Callable[..., str]
) -> None:
    workdir = tmp_path / 'run'
    command = [sys.executable, '-m', 'taclnet_jax.main', *arguments(workdir, **FAST)]
    first = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not (workdir / 'checkpoints').exists():
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.05)
    message = refused(*arguments(workdir, **FAST))
    assert f'process {first.pid} on {socket.gethostname()} is training there' in message
    read = []
    while first.poll() is None:
        try:
            read.append(best_variables(workdir)[0])
        except InputError as error:
            assert 'found no checkpoint' in str(error) and not read
        time.sleep(0.2)  # for the training
    output = first.communicate()[0]
    assert first.returncode == 0, output
    assert read == sorted(read) and read
    assert_same(final_state(workdir), expected)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_devices(
    whole: Run, expected: TrainState, tmp_path: Path
) -> None:
    workdir = whole.copy(tmp_path / 'run')
    for step in (6, 9):
        shutil.rmtree(workdir / 'checkpoints' / 'last' / str(step))
    status, output = run(*arguments(workdir, **FAST), devices=2)
    assert status == 0 and 'Going on from step 3' in output, output
    got = final_state(workdir)
    assert int(got.step) == int(expected.step)
    # Sums over two devices are rounded differently.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), got.variables, expected.variables
    )
    assert np.abs(got.memory.current - expected.memory.current).mean() < 0.02


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    whole: Run, expected: TrainState, tmp_path: Path
) -> None:
    workdir = whole.copy(tmp_path / 'run')
    damaged = workdir / 'checkpoints' / 'last' / '9'
    for path in damaged.rglob('*'):
        if path.is_file() and path.stat().st_size > 100:
            os.truncate(path, path.stat().st_size // 2)
    output = assert_ends_the_same(workdir, expected)
    assert f'{damaged} cannot be read' in output and 'Going on from step 6' in output


@pytest.mark.slow
def test_a_finished_run_is_only_evaluated_again(
    whole: Run, expected: TrainState, tmp_path: Path
) -> None:
    workdir = whole.copy(tmp_path / 'run')
    (workdir / 'results.json').unlink()
    state = train_and_evaluate(to_config(small_settings(**FAST)), workdir)
    assert_same(state, expected)
    assert (workdir / 'results.json').exists()


@pytest.mark.slow
def test_phase_one_is_shared(whole: Run, expected: TrainState, tmp_path: Path) -> None:
    shared = f'--config.start_from={whole.workdir / "checkpoints" / "phase_one"}'
    status, output = run(*arguments(tmp_path / 'shared', **FAST), shared)
    assert status == 0 and 'Going on from step 3' in output, output
    assert_same(final_state(tmp_path / 'shared'), expected)


def test_what_phase_one_cannot_be_shared_with_is_refused(
    whole: Run, tmp_path: Path, refused: Callable[..., str]
) -> None:
    phase_one = whole.workdir / 'checkpoints' / 'phase_one'
    other = arguments(tmp_path / 'run', seed=1, start_from=phase_one)
    assert 'seed: 1 here, 0 there' in refused(*other)
    nothing = arguments(tmp_path / 'run', start_from=tmp_path)
    assert f'found no checkpoint in {tmp_path}' in refused(*nothing)
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_another_run_begins_with_the_parameters(
    whole: Run, tmp_path: Path, refused: Callable[..., str]
) -> None:
    still = {
        'seed': 1,
        'optimizer.name': 'adamw',
        'phase_one.learning_rate': 0.0,
        'phase_two.learning_rate': 0.0,
    }
    status, output = run(
        *arguments(tmp_path / 'run', initialise_from=whole.workdir, **(FAST | still))
    )
    assert status == 0, output
    _, expected = best_variables(whole.workdir)
    jax.tree.map(np.testing.assert_array_equal, best_variables(tmp_path / 'run')[1], expected)

    other = {'initialise_from': whole.workdir, 'model.hidden': (5,)}
    assert 'a model of the same network' in refused(*arguments(tmp_path / 'other', **other))
    both = {'initialise_from': whole.workdir, 'start_from': whole.workdir}
    assert 'found both' in refused(*arguments(tmp_path / 'other', **both))
    assert not (tmp_path / 'other').exists()
