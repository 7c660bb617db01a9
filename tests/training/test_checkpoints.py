"""Which checkpoints are kept, and that nobody but training writes them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
import optax
import pytest
from commands import Run, arguments, environment, small_settings

from taclnet_jax.config.schema import as_nested
from taclnet_jax.config.settings import CheckpointSettings
from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.errors import InputError
from taclnet_jax.inference import load
from taclnet_jax.training import checkpoints as checkpoints_module
from taclnet_jax.training.checkpoints import Checkpoints, Damaged, best_variables
from taclnet_jax.training.loop import train
from taclnet_jax.training.reporting import read_metrics
from taclnet_jax.training.setup import check_workdir, prepare
from taclnet_jax.training.state import EpochLoss, ITAMemory, TrainState
from taclnet_jax.volumes import write_array

pytestmark = pytest.mark.usefixtures('plain_pictures', 'compiled_once')

EPOCHS = 8


def scores(best: int, metric: str) -> Callable[[Any], tuple[dict[str, float], np.ndarray]]:
    """A validation whose call of this number, from 0, is the best."""
    calls = iter(range(EPOCHS))
    sign = 1 if metric == 'dice' else -1

    def validate(variables: Any) -> tuple[dict[str, float], np.ndarray]:
        return {metric: 0.5 - sign * 0.1 * abs(next(calls) - best)}, np.zeros((4, 4, 3), np.uint8)

    return validate


@pytest.mark.slow
@pytest.mark.parametrize(
    ('best', 'metric', 'phase_two'),
    [(0, 'voi', True), (1, 'dice', False), (2, 'dice', True), (3, 'voi', False)],
)
def test_every_validation_can_become_the_best(
    best: int, metric: str, phase_two: bool, tmp_path: Path
) -> None:
    settings = small_settings(
        attention__kind='none',
        phase_one__epochs=0 if phase_two else EPOCHS,
        phase_two__epochs=EPOCHS if phase_two else 0,
        evaluate__every_epochs=2,
        checkpoint__every_epochs=4,
        checkpoint__best_metric=metric,
        crops_limit=8,
    )
    train(prepare(settings), tmp_path, scores(best, metric))
    records = read_metrics(tmp_path / 'metrics.jsonl')
    values = {r['step']: r[f'validation/{metric}'] for r in records if f'validation/{metric}' in r}
    assert list(values) == [2, 4, 6, 8]  # one step an epoch
    choose = max if metric == 'dice' else min
    expected = choose(values, key=values.__getitem__)
    assert best_variables(tmp_path)[0] == load(tmp_path).step == expected == 2 * best + 2
    assert steps(tmp_path / 'checkpoints' / 'last') == [4, 8]


@pytest.mark.slow
def test_what_validation_says_of_phase_one_chooses_nothing(trained: Run) -> None:
    records = read_metrics(trained.workdir / 'metrics.jsonl')
    last_phase = [record for record in records if record['phase'] == 2]
    best = min(last_phase, key=lambda record: record['validation/voi'])
    assert steps(trained.workdir / 'checkpoints' / 'best') == [best['step']]


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob('[0-9]*'))


def state(step: int) -> TrainState:
    weights = {'w': np.full((2, 3), step, np.float32)}
    number, optimizer = np.array(step, np.int32), np.zeros(2)
    return TrainState(
        number, weights, average=None, opt_state=optimizer, memory=None, losses=EpochLoss.create()
    )


def test_a_run_that_goes_on_remembers_how_good_its_best_was(tmp_path: Path) -> None:
    best = tmp_path / 'checkpoints' / 'best'
    for step, voi, kept in ((1, 2.0, 1), (2, 2.5, 1), (3, 1.5, 3), (4, 1.5, 3)):
        checkpoints = Checkpoints(tmp_path, CheckpointSettings(), {})
        checkpoints.offer(state(step), {'voi': voi})
        checkpoints.close()
        assert steps(best) == [kept]


def test_a_best_that_is_later_than_where_a_run_goes_on_gives_its_place(tmp_path: Path) -> None:
    # It was killed after a validation whose step is after that of the last checkpoint.
    best = tmp_path / 'checkpoints' / 'best'
    by_voi, by_ari = ({'checkpoint': {'best_metric': metric}} for metric in ('voi', 'ari'))
    checkpoints = Checkpoints(tmp_path, CheckpointSettings(best_metric='voi'), by_voi)
    checkpoints.offer(state(100), {'voi': 1.0})
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path, CheckpointSettings(best_metric='ari'), by_ari)
    for step, ari, kept in ((100, 0.6, 100), (90, 0.8, 90), (100, 0.7, 90), (110, 0.9, 110)):
        checkpoints.offer(state(step), {'ari': ari})
        checkpoints._best.wait_until_finished()
        assert steps(best) == [kept]
        if step == 100 and kept == 100:
            # The same parameters, chosen by the metric that is asked for now.
            assert checkpoints_module._info(best, step)['config'] == by_ari
    checkpoints.close()


def test_a_moving_average_is_what_is_used_after_training(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, CheckpointSettings(), {})
    averaged = state(4).replace(average={'w': np.full((2, 3), 0.5, np.float32)})
    checkpoints.save(averaged)
    checkpoints.close()
    np.testing.assert_array_equal(best_variables(tmp_path)[1]['w'], 0.5)
    reopened = Checkpoints(tmp_path, CheckpointSettings(), {})
    restored = reopened.restore_last(averaged)
    reopened.close()
    jax.tree.map(np.testing.assert_array_equal, restored, averaged)


def test_the_last_few_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, CheckpointSettings(keep=2), {})
    for step in (1, 2, 3, 3):
        checkpoints.save(state(step))
    checkpoints.close()
    assert steps(tmp_path / 'checkpoints' / 'last') == [2, 3]
    # Without a validation the last one is taken.
    step, variables = best_variables(tmp_path)
    assert step == 3 and (variables['w'] == 3).all()


# --- Readers


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder, with when it was written and how long it is."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in [folder, *folder.rglob('*')]
    }


@pytest.fixture
def busy(trained: Run, tmp_path: Path) -> Path:
    """A run in whose folders somebody is just writing checkpoints."""
    workdir = trained.copy(tmp_path / 'run')
    for name in ('last', 'best', 'phase_one'):
        partial = workdir / 'checkpoints' / name / '12.orbax-checkpoint-tmp'
        (partial / 'variables.orbax-checkpoint-tmp').mkdir(parents=True)
        (partial / '_CHECKPOINT_METADATA').write_text('{}')
    return workdir


@pytest.mark.parametrize(
    'reader',
    [
        'load',
        *(pytest.param(x, marks=pytest.mark.slow) for x in ('evaluate', 'predict', 'start_from')),
    ],
)
def test_readers_write_nothing_into_checkpoints(
    reader: str, busy: Path, tmp_path: Path, run_command: Callable[..., tuple[int, str]]
) -> None:
    before = listing(busy / 'checkpoints')
    stack = tmp_path / 'stack.tif'
    write_array(stack, synthetic_volume(seed=3, shape=(3, 32, 32)).image)
    commands = {
        'evaluate': ['--mode=evaluate', f'--workdir={busy}'],
        'predict': ['--mode=predict', f'--workdir={busy}', f'--input={stack}'],
        'start_from': arguments(
            tmp_path / 'other',
            start_from=busy / 'checkpoints' / 'phase_one',
            phase_two__epochs=1,
            evaluate__threshold_sections=1,
            evaluate__test_sections=1,
        ),
    }
    if reader == 'load':
        assert load(busy).step in (6, 9)
    else:
        status, output = run_command(*commands[reader])
        assert status == 0, output
    assert listing(busy / 'checkpoints') == before


def test_a_run_without_checkpoints_is_named_and_stays_as_it_is(
    busy: Path, refused: Callable[..., str]
) -> None:
    for path in (busy / 'checkpoints').glob('*/[0-9]'):
        path.rename(busy / f'{path.parent.name}_{path.name}')
    before = listing(busy / 'checkpoints')
    message = refused('--mode=evaluate', f'--workdir={busy}')
    assert f'{busy}/checkpoints, found no checkpoint' in message
    assert listing(busy / 'checkpoints') == before


def test_a_damaged_best_checkpoint_is_named(
    trained: Run, tmp_path: Path, refused: Callable[..., str]
) -> None:
    workdir = trained.copy(tmp_path / 'run')
    (best,) = (workdir / 'checkpoints' / 'best').glob('[0-9]*')
    for path in (best / 'variables').rglob('*'):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    assert f'{best} cannot be read' in refused('--mode=evaluate', f'--workdir={workdir}')


@pytest.mark.slow
def test_the_library_leaves_the_loggers_alone() -> None:
    script = """
import logging
from absl import logging as absl_logging
loggers = [logging.getLogger(name) for name in (None, 'absl', 'asyncio')]
levels = lambda: [absl_logging.get_verbosity(), *(each.level for each in loggers)]
loggers[2].setLevel(logging.INFO)
before = levels()
import taclnet_jax.training.checkpoints, taclnet_jax.training.loop, taclnet_jax.inference
assert levels() == before, (before, levels())
"""
    done = subprocess.run(
        [sys.executable, '-c', script], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# --- Damage


@pytest.fixture
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage stays: there is no need to read again."""
    monkeypatch.setattr(checkpoints_module, '_PAUSES_S', ())


def whole_state(step: int) -> TrainState:
    """With all that a state can have."""
    rng = np.random.default_rng(step)
    params = {'w': rng.normal(size=(3, 5)).astype(np.float32), 'b': np.array(step, np.float32)}
    variables = {'params': params, 'batch_stats': {'mean': rng.normal(size=4).astype(np.float32)}}
    optimizer = jax.tree.map(np.asarray, optax.adamw(0.1).init(params))
    average = jax.tree.map(lambda x: np.asarray(x + 1), variables)
    memory = ITAMemory.create(3, (4, 4))
    losses = EpochLoss(*map(np.asarray, (np.float32(0.7), np.int32(2), np.int32(1))))
    return TrainState(np.asarray(step, np.int32), variables, average, optimizer, memory, losses)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A run with two checkpoints and a best one."""
    checkpoints = Checkpoints(tmp_path / 'run', CheckpointSettings(), {'seed': 3})
    for step in (1, 2):
        checkpoints.save(whole_state(step))
    checkpoints.offer(whole_state(2), {'voi': 1.0})
    checkpoints.close()
    return tmp_path / 'run'


def restore(workdir: Path) -> TrainState | None:
    checkpoints = Checkpoints(workdir, CheckpointSettings(), {'seed': 3})
    with contextlib.closing(checkpoints):
        return checkpoints.restore_last(whole_state(0))


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob('*') if path.is_file() and path.stat().st_size)


def flip(path: Path, rng: random.Random) -> None:
    """Another bit in a file, anywhere."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


@pytest.mark.usefixtures('read_once')
@pytest.mark.parametrize('seed', [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_a_flipped_bit_is_never_loaded(seed: int, saved: Path, tmp_path: Path) -> None:
    rng, found = random.Random(seed), 0
    folder = saved / 'checkpoints' / 'last'
    expected = whole_state(2)
    for path in 2 * files_of(folder / '2'):
        content = path.read_bytes()
        flip(path, rng)
        try:
            got = checkpoints_module._state(folder, 2, whole_state(0))
        except Damaged as error:
            assert f'{folder / "2"} cannot be read' in str(error)
            found += 1
        else:
            assert_equal(got, expected)
        path.write_bytes(content)
    assert found > 10
    assert_equal(restore(saved), expected)


def assert_equal(one: Any, two: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(two)
    jax.tree.map(np.testing.assert_array_equal, one, two)


@pytest.mark.usefixtures('read_once')
@pytest.mark.parametrize('item', ['variables', 'training'])
def test_arrays_that_were_not_saved_so_are_named_and_the_one_before_is_used(
    item: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = saved / 'checkpoints' / 'last' / '2'
    shutil.rmtree(last / item)
    shutil.copytree(last.with_name('1') / item, last / item)  # which Orbax itself reads
    assert_equal(restore(saved), whole_state(1))
    said = capsys.readouterr().err
    assert f'{last} cannot be read (its {item} are not those that were saved)' in said
    assert (saved / 'checkpoints' / 'unreadable' / '2').is_dir() and not last.exists()


@pytest.mark.usefixtures('read_once')
@pytest.mark.parametrize('damage', ['no score', 'no digests', 'a list', 'half', 'empty', 'gone'])
def test_damaged_metadata_are_named(damage: str, saved: Path) -> None:
    best = saved / 'checkpoints' / 'best' / '2'
    (path,) = (p for p in files_of(best / 'info') if b'sha256' in p.read_bytes())
    info = json.loads(path.read_text())
    texts = {
        'no score': json.dumps({k: v for k, v in info.items() if k != 'score'}),
        'no digests': json.dumps({k: v for k, v in info.items() if k != 'sha256'}),
        'a list': '[1, 2]',
        'half': path.read_text()[:50],
        'empty': '',
    }
    path.write_text(texts[damage]) if damage in texts else path.unlink()
    for read in (restore, best_variables):
        with pytest.raises(InputError, match=f'{best} cannot be read'):
            read(saved)


@pytest.mark.parametrize('error', [OSError(5, 'Input/output error'), ValueError('DATA_LOSS')])
def test_an_error_of_the_storage_may_pass(
    error: Exception, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, left = checkpoints_module._read, [error, error]

    def failing(*args: Any) -> Any:
        if left:
            raise left.pop()
        return read(*args)

    monkeypatch.setattr(checkpoints_module, '_read', failing)
    monkeypatch.setattr(checkpoints_module.time, 'sleep', lambda seconds: None)
    assert_equal(restore(saved), whole_state(2))
    assert not left and not (saved / 'checkpoints' / 'unreadable').exists()


@pytest.mark.parametrize(
    'error', [OSError(5, 'Input/output error'), OSError(13, 'no'), MemoryError(), ValueError('IO')]
)
def test_what_the_storage_refuses_is_not_put_aside(
    error: Exception, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: Any) -> Any:
        raise error

    def unreadable(path: Path, mode: str) -> NoReturn:
        raise OSError(5, 'Input/output error')

    before = listing(saved)
    monkeypatch.setattr(checkpoints_module.time, 'sleep', lambda seconds: None)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints_module, '_read', failing)
        if isinstance(error, ValueError):  # of a library, which hides what the system said
            patch.setattr(Path, 'open', unreadable)
        for read in (restore, best_variables):
            with pytest.raises(InputError, match='at the moment') as found:
                read(saved)
            assert not isinstance(found.value, Damaged)
    assert listing(saved).keys() == before.keys()
    assert_equal(restore(saved), whole_state(2))


@pytest.mark.usefixtures('read_once')
@pytest.mark.parametrize('damaged', [False, True])
def test_a_run_whose_config_json_was_lost_keeps_its_settings(damaged: bool, tmp_path: Path) -> None:
    settings = small_settings(seed=3)
    with contextlib.closing(
        Checkpoints(tmp_path / 'run', CheckpointSettings(), as_nested(settings))
    ) as checkpoints:
        for step in (1, 2):
            checkpoints.save(whole_state(step))
    if damaged:
        (tmp_path / 'run' / 'checkpoints' / 'last' / '2' / 'info' / 'metadata').write_text('{')
    before = listing(tmp_path / 'run')
    check_workdir(settings, tmp_path / 'run')
    with pytest.raises(InputError, match='seed: 0 here, 3 there'):
        check_workdir(small_settings(seed=0), tmp_path / 'run')
    assert listing(tmp_path / 'run') == before


def test_checkpoints_of_settings_that_cannot_be_used_are_named(saved: Path) -> None:
    with pytest.raises(
        InputError, match=f'{saved} has no config.json, .* found no attention.alpha'
    ):
        check_workdir(small_settings(), saved)


@pytest.mark.parametrize('value', [np.nan, np.inf])
@pytest.mark.parametrize('where', ['variables', 'average'])
def test_parameters_that_are_not_finite_are_never_saved(
    value: float, where: str, saved: Path
) -> None:
    before = listing(saved)
    bad = whole_state(3)
    getattr(bad, where)['params']['w'][1, 1] = value
    checkpoints = Checkpoints(saved, CheckpointSettings(), {'seed': 3})
    with contextlib.closing(checkpoints):
        for save in (
            checkpoints.save,
            checkpoints.save_phase_one,
            lambda state: checkpoints.offer(state, {'voi': 0.1}),
        ):
            with pytest.raises(InputError, match='after step 3 are not finite'):
                save(bad)
        checkpoints.offer(whole_state(4), {'voi': np.nan})
    assert listing(saved).keys() == before.keys()


def test_a_reader_follows_a_best_that_is_replaced(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, CheckpointSettings(), {})
    checkpoints.offer(state(1), {'voi': 10.0})
    checkpoints.close()

    def improve() -> None:
        for step in range(2, 12):
            checkpoints = Checkpoints(tmp_path, CheckpointSettings(), {})
            checkpoints.offer(state(step), {'voi': 10.0 / step})
            checkpoints.close()

    writer = threading.Thread(target=improve)
    writer.start()
    seen = []
    while writer.is_alive():
        step, variables = best_variables(tmp_path)
        assert (variables['w'] == step).all()
        seen.append(step)
    writer.join()
    assert seen == sorted(seen) and best_variables(tmp_path)[0] == 11


def test_the_best_by_another_metric_gives_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    best = tmp_path / 'checkpoints' / 'best'
    scores = {'voi': 2.0, 'ari': 0.6}
    for step, metric, change, kept in (
        (1, 'ari', {}, 1),
        (2, 'voi', {'voi': 1.0}, 2),
        (3, 'voi', {'voi': 1.5, 'ari': 0.9}, 2),
    ):
        settings = CheckpointSettings(best_metric=metric)
        checkpoints = Checkpoints(tmp_path, settings, {'checkpoint': {'best_metric': metric}})
        checkpoints.offer(state(step), scores | change)
        checkpoints.close()
        assert steps(best) == [kept]
    assert caplog.text.count('chosen by another metric') == 1
