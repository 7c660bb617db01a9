"""The command: runs that leave files of results, tables and figures of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import ROOT, SMALL, environment, run

from reproduction.figures import make_figure
from reproduction.results import read_results, write_result
from taclnet_jax.config import read_settings, to_config
from taclnet_jax.errors import InputError
from taclnet_jax.training.reporting import Reporter

TINY = {
    'model.hidden': (),
    'phase_one.epochs': 1,
    'phase_two.epochs': 2,
    'synthetic.shape': (12, 40, 40),
}


def command(*arguments: object) -> tuple[int, str]:
    """`python -m reproduction` in this process: (exit status, output and errors)."""
    return run(*map(str, arguments), module='reproduction')


def start(*arguments: str) -> subprocess.Popen[str]:
    """`python -m reproduction` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, '-m', 'reproduction', *arguments],
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=250)
    finally:
        process.kill()
    return process.returncode, output


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--table=4', '--dataset=isbi12'], '--table to be one of 1, 2, 3; found 4'),
        (['--figure=2', '--dataset=isbi12'], '--figure to be one of 1, 4, 5; found 2'),
        (['--dataset=isbi12'], 'either --table, --figure or --model'),
        (['--model', '--table=1', '--dataset=isbi12'], 'either --table, --figure or --model'),
        (['--model', '--dataset=isbi12', '--folds=4'], '--folds from 0 to 3'),
        (['--table=1'], 'Expected --dataset'),
        (['--table=1', '--dataset=mnist'], "found 'mnist'"),
        (['--table=1', '--dataset=isbi12', '--systems=unet,resnet'], "found 'resnet'"),
        (['--table=1', '--dataset=isbi12', '--folds=0'], '--folds from 1 to 3'),
        (['--table=1', '--dataset=isbi12', '--seeds=a'], "found 'a'"),
        (['--table=1', '--dataset=isbi12', '--budget=-1'], '--budget'),
        (['--table=1', '--dataset=isbi12', '--jobs=0'], '--jobs to be at least 1; found 0'),
        (['--table=2', '--dataset=isbi12', '--systems=unet'], 'found unet'),
        (['--only-tables'], 'Expected results'),
        (['--only-tables', '--figure=4'], 'found --figure'),
        (['--only-tables', '--dataset=isbi12', '--folds=1', '--jobs=2'], 'found --jobs, --folds'),
        (['--model', '--dataset=isbi12', '--folds=0,1'], 'one number as --folds of a model'),
        (['--model', '--dataset=isbi12', '--systems=unet'], 'found --systems'),
        (['--figure=4', '--dataset=isbi12', '--seeds=0,1'], 'one number as --seeds of a figure'),
        (['--figure=4', '--dataset=isbi12', '--budget=1'], 'found --budget'),
        (['--figure=1', '--dataset=isbi12', '--section=3'], '--section with figures 4 and 5'),
        (['--table=1', '--dataset=isbi12', '--section=3'], 'found --section'),
        (['--table=1', '--dataset=isbi12', '--folds='], '--folds from 1 to 3, separated by commas'),
        (['--table=1', '--dataset=isbi12', '--seeds='], '--seeds from 0 to 2147483647'),
        (['--table=1', '--dataset=isbi12', '--systems='], '--systems out of dive, '),
        (['--table=1', '--dataset=isbi12', f'--seeds={2**31}'], "found '2147483648'"),
        (['--table=1', '--dataset=isbi12', '--budget=inf'], '--budget'),
    ],
)
def test_bad_input_ends_with_a_message(arguments, message, tmp_path):
    status, output = command(*arguments, f'--results={tmp_path}')
    assert status == 2 and message in output and 'Traceback' not in output, output


def test_tables_are_rewritten_from_files_alone(result, tmp_path):
    write_result(tmp_path, result(dice=[0.9, 0.8]))
    status, output = command('--only-tables', f'--results={tmp_path}')
    assert status == 0 and '| TACLNet | P_hat | 0.8500 |' in output, output
    names = {path.name for path in tmp_path.glob('table*')}
    assert names == {f'table{n}_isbi12.{end}' for n in (1, 2, 3) for end in ('md', 'tex', 'csv')}
    assert '0.8500' in (tmp_path / 'table1_isbi12.tex').read_text()
    (tmp_path / 'isbi12_taclnet_fold3_seed0_slices3.json').write_text('{')
    status, output = command('--only-tables', f'--results={tmp_path}')
    assert status == 2 and 'is damaged' in output and 'Traceback' not in output, output


@pytest.fixture(scope='module')
def reproduced(
    tmp_path_factory: pytest.TempPathFactory, without_pictures: None, compiled_once: None
) -> tuple[Path, str, str]:
    """A folder with two runs, and what the call that was interrupted and the next one printed."""
    folder = tmp_path_factory.mktemp('reproduced')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reporter, 'step', lambda *_: signal.raise_signal(signal.SIGTERM))
        # The budget is measured by the one system of the first call; the second takes it over.
        status, output = command(*small(folder, 'convlstm'), '--budget=600')
    assert status == 128 + signal.SIGTERM, output
    status, rest = command(*small(folder))
    assert status == 0, rest
    return folder, output, rest


def small(folder: Path, systems: str = 'convlstm,taclnet') -> list[str]:
    return [
        '--table=2',
        '--dataset=synthetic',
        f'--systems={systems}',
        '--folds=3',
        '--seeds=0',
        f'--results={folder / "results"}',
        f'--workdir={folder / "runs"}',
        f'--config={ROOT / "configs" / "synthetic.py"}',
        *(f'--config.{key}={value}' for key, value in (SMALL | TINY).items()),
    ]


@pytest.mark.slow
def test_an_interrupted_reproduction_goes_on(reproduced: tuple[Path, str, str]) -> None:
    folder, output, rest = reproduced
    assert 'Run 1 of 1' in output and '0 of 1 runs were finished' in output
    assert 'Going on from step' in rest and 'Run 2 of 2' in rest
    kept = json.loads((folder / 'runs' / 'synthetic_schedule.json').read_text())
    schedule = kept['schedule']
    assert (schedule['phase_one.epochs'], schedule['phase_two.epochs']) == (1, 2)
    plain, taclnet = read_results(folder / 'results')
    assert (plain['system'], taclnet['system']) == ('convlstm', 'taclnet')
    # A quarter of the flagship's time a step, so four times the epochs, of three steps.
    assert plain['updates'] == taclnet['updates'] == 4 * 9
    assert plain['schedule'] == taclnet['schedule'] == schedule
    assert plain['phase_one_from'] == ''
    assert taclnet['phase_one_from'] == 'synthetic_convlstm_fold3_seed0_slices3'
    assert plain['content'] == 'synthetic' and plain['sections'] == [8, 9, 10, 11]
    for made in (plain, taclnet):
        workdir = folder / 'runs' / f'synthetic_{made["system"]}_fold3_seed0_slices3'
        whole = json.loads((workdir / 'results.json').read_text())
        for name in ('P', 'P_hat'):
            expected = [scores['voi'] for scores in whole[name]['per_section']]
            assert made[name]['scores']['voi'] == pytest.approx(expected, rel=1e-4)
        assert made['seconds']['wall'] > made['seconds']['epoch_phase_2'] > 0
        assert len(json.dumps(made)) < 8000
    assert (folder / 'results' / 'table2_synthetic.md').exists()
    assert '| none / STA | P_hat |' in rest


def steps(folder: Path) -> list[int]:
    """Of the last checkpoints of a run."""
    names = [path.name for path in (folder / 'checkpoints' / 'last').glob('*')]
    return [int(name) for name in names if name.isdecimal()]


@pytest.mark.slow
def test_runs_side_by_side_go_on_after_an_interrupt(tmp_path: Path) -> None:
    flags = [flag for flag in small(tmp_path, 'convlstm') if not flag.startswith('--folds')]
    # Long enough that none ends before the other is under way.
    flags += ['--folds=3,1', '--jobs=2', '--config.phase_two.epochs=3']
    flags += ['--config.evaluate.every_epochs=17']
    flags += [f'--config.evaluate.{kind}_sections=1' for kind in ('threshold', 'test')]
    process = start(*flags)
    runs = [tmp_path / 'runs' / f'synthetic_convlstm_fold{n}_seed0_slices3' for n in (3, 1)]
    for _ in range(3000):
        saved = [any(steps(folder)) for folder in runs]
        if all(saved) or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    status, output = finish(process)
    assert status == 128 + signal.SIGTERM, output
    assert 'of 2 runs were finished' in output
    for folder in runs:  # both started together, and what one does is said behind its name
        assert f'{folder.name}: ' in output and (folder / 'wall_seconds').exists()
    missing = 2 - len(list((tmp_path / 'results').glob('synthetic_*.json')))
    status, rest = finish(start(*flags))
    assert status == 0 and f'Finished {missing} of {missing} missing runs' in rest, rest
    assert 'Going on from step' in rest
    cores = {result['hardware'] for result in read_results(tmp_path / 'results')}
    shared = max(1, len(os.sched_getaffinity(0)) // 2)
    assert any(f' {shared} ' in hardware for hardware in cores), cores


@pytest.mark.slow
def test_results_of_other_settings_are_kept_and_named(reproduced: tuple[Path, str, str]) -> None:
    folder, *_ = reproduced
    before = read_results(folder / 'results')
    status, output = command(*small(folder), '--config.batch_size=4')
    assert status == 0 and 'was made with other settings (batch_size: 4 here, 8 there)' in output
    assert '2 of 2 runs are there' in output
    assert read_results(folder / 'results') == before


@pytest.mark.slow
def test_attention_over_epochs_is_drawn(reproduced: tuple[Path, str, str]) -> None:
    folder, *_ = reproduced
    options = [x for x in small(folder) if not x.startswith(('--table', '--systems'))]
    status, output = command('--figure=1', *options)
    path = folder / 'results' / 'figures' / 'figure1_synthetic.png'
    assert status == 0 and f'Figure: {path}' in output and path.stat().st_size > 10_000, output


@pytest.mark.slow
@pytest.mark.parametrize('number', [4, 5])
def test_figures_are_drawn_from_runs(number: int, reproduced: tuple[Path, str, str]) -> None:
    folder, *_ = reproduced
    workdir = folder / 'runs' / 'synthetic_taclnet_fold3_seed0_slices3'
    config = to_config(read_settings(workdir))
    places = {'workdir': folder / 'runs', 'results': folder / 'results'}
    options = {'systems': None, 'fold': 3, 'seed': 0, 'section': 9}
    path = make_figure(number, config, **options, **places)
    assert path == folder / 'results' / 'figures' / f'figure{number}_synthetic.png'
    assert path.stat().st_size > 10_000
    with pytest.raises(InputError, match='8 to 11; found 0'):
        make_figure(number, config, **(options | {'section': 0}), **places)
    with pytest.raises(InputError, match='fold 1'):
        make_figure(number, config, **(options | {'fold': 1}), **places)
