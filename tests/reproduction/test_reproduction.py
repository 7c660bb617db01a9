"""The poster's tables from files of results, and the runs that leave these files."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from commands import ROOT, SMALL, environment

from reproduction import runs as reproduction
from reproduction.budget import Costs, fitting_schedule
from reproduction.comparison import holm
from reproduction.figures import error_marks, iterate, make_figure
from reproduction.results import (
    content_of,
    other_settings,
    read_epoch_times,
    read_results,
    schedule_of,
    write_result,
)
from reproduction.systems import SYSTEMS, Run, base_config, run_config
from reproduction.table_formats import comma_separated, escape, latex, markdown
from reproduction.tables import Table, make_tables
from taclnet_jax import metrics
from taclnet_jax.config import check_config, flatten, get_config
from taclnet_jax.errors import InputError
from taclnet_jax.training.workdir import read_config

TINY = {'phase_one.epochs': 1, 'phase_two.epochs': 2, 'synthetic.shape': (12, 40, 40)}
CONFIG = {
    'evaluate.threshold_from': 'training',
    'phase_one.epochs': 20,
    'phase_one.halve_every': 50,
    'phase_two.epochs': 4,
}


def result(
    system: str = 'taclnet', fold: int = 3, seed: int = 0, slices: int = 3, **changes: Any
) -> dict[str, Any]:
    """A result whose scores are the keywords named as metrics, in both maps."""
    scores = {key: changes.pop(key, [0.5, 0.5]) for key in ('dice', 'ari', 'voi', 'betti_error')}
    sections = len(scores['dice'])
    scores = {
        key: value if len(value) == sections else [0.5] * sections for key, value in scores.items()
    }
    return {
        'dataset': 'isbi12',
        'content': 'real',
        'system': system,
        'fold': fold,
        'seed': seed,
        'slices': slices,
        'updates': 672,
        'step': 600,
        'seconds': {'wall': 900.0, 'epoch_phase_2': 42.0},
        'phase_one_from': '',
        'hardware': 'two cores',
        'version': '0.1.0',
        'sections': list(range(10 * (fold - 1), 10 * (fold - 1) + sections)),
        'P': {'threshold': 0.4, 'scores': {key: [0.1] * sections for key in scores}},
        'P_hat': {'threshold': 0.5, 'scores': scores},
        'config': CONFIG,
    } | changes


def cells(table: Table, row: str) -> dict[str, Any]:
    """The entries of a row by the titles of their columns."""
    (entries,) = [entries for entries in table.body if entries[0].text == row]
    return dict(zip(table.header, entries, strict=True))


# Numbers


def test_a_cell_is_the_mean_and_deviation_over_folds_of_means_over_sections():
    table, *_ = make_tables(
        1,
        'isbi12',
        [
            result(fold=3, seed=0, dice=[0.9, 1.0]),  # 0.95
            result(fold=3, seed=1, dice=[0.7, 0.8]),  # 0.75: with the other seed, 0.85
            result(fold=1, seed=0, dice=[0.95, 0.95]),
        ],
    )
    found = cells(table, 'TACLNet')
    # (0.85 + 0.95) / 2, and sqrt(2 * 0.05^2 / 1).
    assert found['DICE'].text == '0.9000 ± 0.0707'
    assert found['runs'].text == '3 (folds 1, 3)'
    assert found['updates'].text == '672'
    assert found['map'].text == 'P_hat'


def test_plain_systems_are_scored_by_p():
    table, at_test = make_tables(1, 'isbi12', [result('unet', dice=[0.9, 0.9])])
    assert cells(table, 'U-Net')['map'].text == 'P'
    assert cells(table, 'U-Net')['DICE'].text == '0.1000'  # of one fold: no deviation
    assert cells(at_test, 'U-Net')['map'].text == 'P_hat'
    assert cells(at_test, 'U-Net')['DICE'].text == '0.9000'
    assert len(at_test.body) == sum(s.scored == 'P' for s in SYSTEMS.values())


def test_the_poster_stands_beside_and_missing_runs_are_named():
    table, *_ = make_tables(1, 'isbi12', [result()])
    columns = table.header
    dive = [entries for entries in table.body if entries[0].text == 'DIVE'][0]
    assert dive[columns.index('DICE')].text == 'no run yet'
    assert dive[columns.index('DICE') + 1].text == '0.9709 ± 0.0029'
    assert dive[columns.index('VOI') + 1].text == '1.235 ± 0.025'
    assert cells(table, 'DIVE')['runs'].text == '0'
    assert [entries[0].text for entries in table.body] == [s.title for s in SYSTEMS.values()]


def test_the_best_is_bold_and_what_differs_from_it_is_marked():
    # Four sections in each of three folds: twelve pairs.
    base = np.linspace(0.5, 0.9, 12)
    lower = base - np.linspace(0.01, 0.12, 12)  # always lower
    mixed = base + np.linspace(0.01, 0.12, 12) * np.tile([1, -1], 6) - 0.001
    scores = {'taclnet': base, 'recurrent_taclnet': lower, 'convlstm_sta': mixed}
    results = [
        result(system, fold, ari=values[4 * fold - 4 : 4 * fold].tolist(), dice=[0.5] * 4)
        for system, values in scores.items()
        for fold in (1, 2, 3)
    ]
    table, *_ = make_tables(1, 'isbi12', results)
    best, worse, same = (
        cells(table, SYSTEMS[name].title)['ARI']
        for name in ('taclnet', 'recurrent_taclnet', 'convlstm_sta')
    )
    assert (best.bold, best.mark) == (True, False)
    assert (worse.bold, worse.mark) == (False, True)
    assert (same.bold, same.mark) == (False, False)
    p = {v['system']: v['p'] for v in table.values if v['metric'] == 'ari' and v['runs']}
    # All of 12 differences negative: 2 of 2^12 outcomes; twice that for two comparisons.
    assert p['recurrent_taclnet'] == pytest.approx(2 * 2 / 2**12)
    assert p['convlstm_sta'] > 0.3 and p['taclnet'] is None
    # DICE is the same everywhere: all are best, none differs.
    dice = [cells(table, SYSTEMS[name].title)['DICE'] for name in scores]
    assert all(entry.bold and not entry.mark for entry in dice)
    assert any('12 sections' in note for note in table.notes)


def test_of_as_many_folds_those_of_most_rows_are_compared():
    results = [result('convlstm_sta', 3, ari=[0.5, 0.5])] + [
        result(system, 1, ari=[value, value])
        for system, value in (('taclnet', 0.7), ('recurrent_taclnet', 0.6))
    ]
    table, *_ = make_tables(1, 'isbi12', results)
    bold = [entries[0].text for entries in table.body if entries[table.header.index('ARI')].bold]
    assert bold == ['TACLNet']


def test_the_lowest_voi_is_best():
    results = [result(voi=[0.7, 0.7]), result('recurrent_taclnet', voi=[0.8, 0.8])]
    table, *_ = make_tables(1, 'isbi12', results)
    assert cells(table, 'TACLNet')['VOI'].bold
    assert not cells(table, SYSTEMS['recurrent_taclnet'].title)['VOI'].bold


def test_closed_membranes_have_a_table_of_the_runs_that_closed_them():
    older, newer = result('unet'), result('taclnet', voi=[0.8, 0.8])
    assert not any('closed' in t.title for t in make_tables(1, 'isbi12', [older, newer]))
    for name, voi in (('P', 0.6), ('P_hat', 0.4)):
        scores = newer[name]['scores'] | {'voi': [voi, voi]}
        newer[f'{name}_closed'] = {'threshold': 0.7, 'closing': 0.2, 'scores': scores}
    tables = make_tables(1, 'isbi12', [older, newer])
    (closed,) = [table for table in tables if 'closed' in table.title]
    found = [(e[0].text, e[1].text, e[6].text, e[7].text) for e in closed.body]
    theirs = '0.771 ± 0.027'
    assert found == [
        ('TACLNet', 'P, closed', '0.600', theirs),
        ('TACLNet', 'P_hat, closed', '0.400', theirs),
    ]
    assert closed.body[1][6].bold
    assert cells(tables[0], 'TACLNet')['VOI'].text == '0.800'


def test_fewer_than_six_pairs_are_not_tested():
    few = [result(dice=[0.9] * 5), result('recurrent_taclnet', dice=[0.1] * 5)]
    table, *_ = make_tables(1, 'isbi12', few)
    assert all(value['p'] is None for value in table.values)
    assert not any('†' in note for note in table.notes)


def test_a_system_with_fewer_folds_is_not_best():
    results = [result(fold=fold, dice=[0.8, 0.8]) for fold in (1, 3)]
    results += [result('convlstm_sta', fold, dice=[0.7, 0.7]) for fold in (1, 3)]
    results.append(result('recurrent_taclnet', 3, dice=[0.9, 0.9]))
    table, *_ = make_tables(1, 'isbi12', results)
    assert cells(table, 'TACLNet')['DICE'].bold
    assert not cells(table, SYSTEMS['recurrent_taclnet'].title)['DICE'].bold


def test_seeds_of_a_section_are_one_pair():
    results = [
        result(system, seed=seed, dice=[value + 0.01 * i for i in range(4)])
        for system, value in (('taclnet', 0.9), ('recurrent_taclnet', 0.8))
        for seed in (0, 1, 2)
    ]
    table, *_ = make_tables(1, 'isbi12', results)
    assert all(value['p'] is None for value in table.values)  # 4 pairs, not 12


def test_holm_by_hand():
    # Sorted 0.01, 0.03, 0.04: times 3, 2 and 1, and never falling.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0] and holm([]) == []


def test_attention_in_training_and_at_test_comes_from_the_same_runs():
    tables = make_tables(2, 'isbi12', [result('convlstm', dice=[0.9, 0.9])])
    assert len(tables) == 4
    assert cells(tables[0], 'ConvLSTM')['poster (CREMI)'].text == '1.785 ± 0.254'
    assert cells(tables[1], 'none / none')['DICE'].text == '0.1000'
    assert cells(tables[1], 'none / STA')['DICE'].text == '0.9000'
    assert cells(tables[1], 'STA+ITA / STA')['DICE'].text == 'no run yet'


def test_the_number_of_sections_with_time_per_epoch():
    times = {'hardware': 'a GPU', 'windows': 1328, 'crop': [156, 156]}
    seconds = {'TACLNet': {1: 36.0, 3: 72.0, 5: 144.0}}
    slices, epochs = make_tables(
        3,
        'isbi12',
        [result(ari=[0.7, 0.9]), result(slices=5, seconds={'wall': 9.0, 'epoch_phase_2': 4000})],
        [times | {'seconds': seconds}],
    )
    assert [entries[0].text for entries in slices.body] == ['1s', '3s', '5s']
    assert cells(slices, '3s')['ARI'].text == '0.8000'
    assert cells(slices, '3s')['time per epoch'].text == '42 s'
    assert cells(slices, '5s')['time per epoch'].text == '1.11 h'
    assert cells(slices, '1s')['time per epoch'].text == 'no run yet'
    assert slices.body[2][-1].text == '2.78 h'
    ours = cells(epochs, 'a GPU')
    assert [ours[f'l = {n}'].text for n in (1, 3, 5)] == ['0.01 h', '0.02 h', '0.04 h']
    assert ours['l = 5 / l = 1'].text == '4.00' and ours['poster / here, l = 3'].text == '60'


def test_times_of_different_hardware_are_not_mixed():
    table, *_ = make_tables(3, 'isbi12', [result(), result(seed=1, hardware='a GPU')])
    assert cells(table, '3s')['time per epoch'].text == '42 s (a GPU); 42 s (two cores)'


def test_made_up_content_and_reduced_settings_are_said():
    config = CONFIG | {'downsample': 2, 'evaluate.threshold_from': 'fixed'}
    table, *_ = make_tables(
        1, 'cremi', [result(dataset='cremi', content='synthetic', config=config)]
    )
    assert 'SYNTHETIC CONTENT' in table.title
    assert set(table.notes) >= {
        'Networks see half the resolution in y and x; scored is the whole.',
        'Threshold: fixed.',
    }


# Formats


def test_markdown_and_latex_carry_bold_and_mark():
    results = [result(fold=f, dice=[0.9] * 6) for f in (1, 2)]
    results += [result('recurrent_taclnet', f, dice=[0.1 * i for i in range(6)]) for f in (1, 2)]
    table, *_ = make_tables(1, 'isbi12', results)
    text = markdown([table, table])
    assert text.count('Mean ± sample standard deviation') == 1
    assert '**0.9000 ± 0.0000**' in text and '0.2500 ± 0.0000†' in text
    rows = [line for line in text.splitlines() if line.startswith('|')]
    assert len({line.count('|') for line in rows}) == 1
    text = latex(table)
    assert r'\textbf{0.9000 $\pm$ 0.0000}' in text and r'0.2500 $\pm$ 0.0000$^\dagger$' in text
    assert r'P\_hat' in text and 'P_hat' not in text.replace(r'P\_hat', '')
    rows = [line for line in text.splitlines() if line.endswith(r'\\')]
    assert {line.count(' & ') for line in rows} == {len(table.header) - 1}


def test_latex_escapes_its_special_characters():
    assert escape(r'50 % of a_b & {c} #1 $ ~ ^ \ <') == (
        r'50 \% of a\_b \& \{c\} \#1 \$ \textasciitilde{} \textasciicircum{} '
        r'\textbackslash{} $<$'
    )


def test_csv_has_a_line_for_each_metric():
    table, *_ = make_tables(1, 'isbi12', [result(dice=[0.9, 0.8])])
    lines = list(csv.DictReader(io.StringIO(comma_separated([table]))))
    (line,) = [x for x in lines if x['system'] == 'taclnet' and x['metric'] == 'dice']
    assert (line['mean'], line['std'], line['poster_mean'], line['runs']) == (
        '0.85',
        '',
        '0.9576',
        '1',
    )
    assert len(lines) == 4 * len(SYSTEMS)


# Files


def test_results_are_read_as_they_were_written(tmp_path):
    made = result(voi=[None, 0.5])
    assert write_result(tmp_path, made).name == 'isbi12_taclnet_fold3_seed0_slices3.json'
    assert read_results(tmp_path) == [made]
    assert [path.name for path in tmp_path.iterdir()] == ['isbi12_taclnet_fold3_seed0_slices3.json']
    table, *_ = make_tables(1, 'isbi12', read_results(tmp_path))
    assert cells(table, 'TACLNet')['VOI'].text == '0.500'


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda text: text[: len(text) // 2], 'is damaged'),
        (lambda text: '[]', 'found no dataset'),
        (lambda text: text.replace('"fold": 3', '"fold": "3"'), 'found no fold'),
        (lambda text: text.replace('"sections": [', '"sections": [7, '), 'of 3 sections'),
        (lambda text: text.replace('"phase_one.epochs"', '"epochs"'), 'no phase_one.epochs'),
        (lambda text: text.replace('"fold": 3', '"fold": 2'), 'fold2'),
        (lambda text: text.replace('{\n', '{\n"P_closed": null,\n', 1), 'no P_closed.scores'),
    ],
)
def test_damaged_results_are_refused_by_name(damage, message, tmp_path):
    path = write_result(tmp_path, result())
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=message) as error:
        read_results(tmp_path)
    assert str(path) in str(error.value)


def test_other_settings_are_found_and_places_are_none():
    config = run_config(base_config('isbi12'), Run('isbi12', 'taclnet', 3, 0), {})
    made = result(config=flatten(config) | {'data_dir': '/elsewhere', 'attention.backend': 'xla'})
    assert other_settings(config, made) == []
    made['config'] |= {'phase_two.learning_rate': 1.0}
    (line,) = other_settings(config, made)
    assert line.startswith('phase_two.learning_rate: ') and line.endswith(' here, 1.0 there')


def test_the_schedule_is_that_of_most_results():
    def with_epochs(one: int, seed: int) -> dict[str, Any]:
        config = {'phase_one.epochs': one, 'phase_one.halve_every': 5, 'phase_two.epochs': 2}
        return result(seed=seed, config=config)

    found = schedule_of([with_epochs(20, 0), with_epochs(8, 1), with_epochs(8, 2)])
    assert found == {'phase_one.epochs': 8, 'phase_one.halve_every': 5, 'phase_two.epochs': 2}
    assert schedule_of([]) is None


def test_times_of_an_epoch_are_of_all_numbers_of_sections(tmp_path):
    (tmp_path / 'epoch_time').mkdir()
    record = {'hardware': 'two cores', 'windows': 8, 'crop': [156, 156]}
    seconds = {'TACLNet': {'1': 36.0, '3': 72.0, '5': 108}}
    path = tmp_path / 'epoch_time' / 'two_cores.json'
    path.write_text(json.dumps(record | {'seconds': seconds}))
    times = read_epoch_times(tmp_path)
    (*_, table) = make_tables(3, 'isbi12', [], times)
    assert [e.text for e in table.body[-1]][:4] == ['two cores', 'TACLNet', '0.01 h', '0.02 h']
    path.write_text(json.dumps(record | {'seconds': {'TACLNet': {'1': 36.0}}}))
    with pytest.raises(InputError, match='two_cores.json'):
        read_epoch_times(tmp_path)


def test_files_of_cremis_layout_say_that_they_are_made_up(tmp_path):
    config = base_config('cremi')
    config.data_dir, config.cremi.samples = str(tmp_path), ('A',)
    (tmp_path / 'cremi').mkdir()
    for sample, made_up in (('A', False), ('B', True)):
        with h5py.File(tmp_path / 'cremi' / f'sample_{sample}_20160501.hdf', 'w') as file:
            file.attrs['synthetic'] = made_up
    assert content_of(config) == 'real'
    config.cremi.samples = ('A', 'B')
    assert content_of(config) == 'synthetic'


# Systems and budget


def test_systems_differ_in_nothing_but_themselves():
    base = base_config('isbi12')
    for name, system in SYSTEMS.items():
        config = run_config(base, Run('isbi12', name, 2, 7, 5), {'phase_two.epochs': 1})
        check_config(config)
        assert (config.fold, config.seed, config.slices) == (2, 7, 5)
        assert config.validation_sections >= 5 and config.phase_two.epochs == 1
        assert {key.split('.')[0] for key in system.settings} <= {
            'model',
            'attention',
            'loss',
            'topological_loss',
            'perceptual_loss',
            'optimizer',
            'phase_one',
            'phase_two',
        }
        assert not any(key.endswith('epochs') for key in system.settings)
    assert base.fold == 3  # untouched


def test_a_budget_shortens_all_runs_alike():
    schedule = {'phase_one.epochs': 20, 'phase_one.halve_every': 10, 'phase_two.epochs': 4}
    # 10 + 20 * 5 + 4 * 5 = 130 s, and 10 + 4 * 5 = 30 s with another run's phase one.
    runs = [Costs(10, (5, 5)), Costs(10, (5, 5)).without_phase_one()]
    assert fitting_schedule(schedule, runs, 160) == schedule
    # Half of the epochs: 10 + 50 + 10 and 10 + 10 = 90 s.
    half = {'phase_one.epochs': 10, 'phase_one.halve_every': 5, 'phase_two.epochs': 2}
    assert fitting_schedule(schedule, runs, 90) == half
    assert fitting_schedule(schedule, runs, 89)['phase_one.epochs'] == 9
    least = {'phase_one.epochs': 1, 'phase_one.halve_every': 1, 'phase_two.epochs': 1}
    assert fitting_schedule(schedule, runs, 0) == least


def test_a_run_that_fails_keeps_no_other_from_being_made(tmp_path, monkeypatch, capsys):
    made = []

    def train(config: Any, folder: str) -> None:
        made.append(Path(folder).name)
        if 'unet' in folder:
            raise RuntimeError('out of memory')
        raise InputError('Expected another file.')

    base = get_config()
    base.synthetic.shape = (12, 40, 40)
    monkeypatch.setattr(reproduction, 'train_and_evaluate', train)
    runs = [Run('synthetic', system, 3, 0) for system in ('unet', 'convlstm')]
    results, workdir = tmp_path / 'results', tmp_path / 'runs'
    assert reproduction.Reproduction(base, results, workdir).make(runs) == runs
    assert made == [run.key for run in runs]
    said = capsys.readouterr().err
    assert 'Failed: U-Net' in said and 'out of memory' in said
    assert 'Expected another file.' in said and 'Finished 0 of 2' in said
    workdir.mkdir(exist_ok=True)
    (workdir / 'synthetic_schedule.json').write_text('{"budget": ')  # damaged: measured anew
    spent = SimpleNamespace(fitting=0)

    def fitting(self: Any, missing: Any, own: Any, minutes: float) -> dict[str, Any]:
        spent.fitting += 1
        return dict(own) | {'phase_one.epochs': 1}

    monkeypatch.setattr(reproduction.Reproduction, '_fitting_schedule', fitting)
    for minutes in (1e-9, 1e-9, 2e-9):
        assert reproduction.Reproduction(base, results, workdir).make(runs, minutes) == []
        said = capsys.readouterr().err
        assert 'Phase one has 1 epochs' in said and f'to take {minutes:g} minutes' in said
        assert '2 were not started: the budget is spent' in said
    assert spent.fitting == 2 and len(made) == 2


# Figures


def test_errors_are_marked_where_cells_are_cut_and_joined():
    truth = np.zeros((30, 62), np.int32)
    truth[:, :20], truth[:, 21:41], truth[:, 42:] = 1, 2, 3
    right = truth.copy()
    assert not any(marks.any() for marks in error_marks(truth, right))
    wrong = truth.copy()
    wrong[10:14, 20] = 1  # a hole in the membrane between 1 and 2 ...
    wrong[wrong == 2] = 1  # ... makes them one
    wrong[15, 42:] = 0  # a line of membrane cuts 3 ...
    wrong[16:, 42:] = 2  # ... in two
    cuts, joints = error_marks(truth, wrong)
    assert metrics.false_splits_and_merges(truth, wrong) == (1, 1)
    assert set(np.argwhere(cuts)[:, 0]) <= {14, 15, 16} and cuts[:, 42:].any(0).all()
    assert not cuts[:, :42].any()
    assert set(map(tuple, np.argwhere(joints))) <= {
        (y, x) for y in range(10, 14) for x in (19, 20, 21)
    }
    assert joints[10:14].any(1).all()


def test_no_error_is_marked_that_the_metric_does_not_count():
    rng = np.random.default_rng(0)
    for _ in range(8):
        truth, segments = (
            metrics.segment(np.kron(rng.random((8, 8)), np.ones((6, 6))), 0.5) for _ in range(2)
        )
        splits, merges = metrics.false_splits_and_merges(truth, segments)
        cuts, joints = error_marks(truth, segments)
        assert (splits > 0 or not cuts.any()) and (merges > 0 or not joints.any())


def test_attention_is_iterated_from_its_first_epoch():
    maps = np.array([1.0, 0.0, 0.0])[:, None, None]
    assert iterate(maps, 0.5).ravel().tolist() == [1.0, 0.5, 0.25]


# The command


def command(*arguments: object, cache: Path | None = None) -> subprocess.Popen[str]:
    """Starts `python -m reproduction`; what it compiles is quick to compile, and kept."""
    quick = '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'
    kept = {
        'JAX_COMPILATION_CACHE_DIR': str(cache or ''),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
        'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
    }
    return subprocess.Popen(
        [sys.executable, '-m', 'reproduction', *map(str, arguments)],
        env=environment() | {'XLA_FLAGS': quick} | (kept if cache else {}),
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
        (['--dataset=isbi12'], 'either --table or --figure'),
        (['--table=1'], 'Expected --dataset'),
        (['--table=1', '--dataset=mnist'], "found 'mnist'"),
        (['--table=1', '--dataset=isbi12', '--systems=unet,resnet'], "found 'resnet'"),
        (['--table=1', '--dataset=isbi12', '--folds=0'], '--folds from 1 to 3'),
        (['--table=1', '--dataset=isbi12', '--seeds=a'], "found 'a'"),
        (['--table=1', '--dataset=isbi12', '--budget=-1'], '--budget'),
        (['--table=2', '--dataset=isbi12', '--systems=unet'], 'found unet'),
        (['--only-tables'], 'Expected results'),
    ],
)
def test_bad_input_ends_with_a_message(arguments, message, tmp_path):
    status, output = finish(command(*arguments, f'--results={tmp_path}'))
    assert status == 2 and message in output and 'Traceback' not in output, output


def test_tables_are_rewritten_from_files_alone(tmp_path):
    write_result(tmp_path, result(dice=[0.9, 0.8]))
    status, output = finish(
        command('--only-tables', f'--results={tmp_path}', f'--workdir={tmp_path}/none')
    )
    assert status == 0 and '| TACLNet | P_hat | 0.8500 |' in output, output
    names = {path.name for path in tmp_path.glob('table*')}
    assert names == {f'table{n}_isbi12.{end}' for n in (1, 2, 3) for end in ('md', 'tex', 'csv')}
    assert '0.8500' in (tmp_path / 'table1_isbi12.tex').read_text()
    (tmp_path / 'isbi12_taclnet_fold3_seed0_slices3.json').write_text('{')
    status, output = finish(command('--only-tables', f'--results={tmp_path}'))
    assert status == 2 and 'is damaged' in output and 'Traceback' not in output, output


@pytest.fixture(scope='module')
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder with two runs, and what the call that was interrupted and the next one printed."""
    folder = tmp_path_factory.mktemp('reproduced')
    # The budget is measured by the one system of the first call, and the second takes it over.
    first = command(*small(folder, 'convlstm'), '--budget=600', cache=folder / 'compiled')
    saved = (
        folder / 'runs' / 'synthetic_convlstm_fold3_seed0_slices3' / 'checkpoints' / 'last' / '3'
    )
    for _ in range(3000):
        if saved.exists() or first.poll() is not None:
            break
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    status, output = finish(first)
    assert status == 128 + signal.SIGTERM, output
    status, rest = finish(command(*small(folder), cache=folder / 'compiled'))
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


def test_an_interrupted_reproduction_goes_on(reproduced: tuple[Path, str, str]) -> None:
    folder, output, rest = reproduced
    assert 'Run 1 of 1' in output and '0 of 1 runs were finished' in output
    assert 'Going on from step' in rest and 'Run 2 of 2' in rest
    kept = json.loads((folder / 'runs' / 'synthetic_schedule.json').read_text())
    schedule = kept['schedule']
    assert (schedule['phase_one.epochs'], schedule['phase_two.epochs']) == (1, 2)
    plain, taclnet = read_results(folder / 'results')
    assert (plain['system'], taclnet['system']) == ('convlstm', 'taclnet')
    assert plain['updates'] == taclnet['updates'] == 9
    assert plain['phase_one_from'] == ''
    assert taclnet['phase_one_from'] == 'synthetic_convlstm_fold3_seed0_slices3'
    assert plain['content'] == 'synthetic' and plain['sections'] == [8, 9, 10, 11]
    for made in (plain, taclnet):
        run = folder / 'runs' / f'synthetic_{made["system"]}_fold3_seed0_slices3'
        whole = json.loads((run / 'results.json').read_text())
        for name in ('P', 'P_hat'):
            expected = [scores['voi'] for scores in whole[name]['per_section']]
            assert made[name]['scores']['voi'] == pytest.approx(expected, rel=1e-4)
        assert made['seconds']['wall'] > made['seconds']['epoch_phase_2'] > 0
        assert len(json.dumps(made)) < 8000
    assert (folder / 'results' / 'table2_synthetic.md').exists()
    assert '| none / STA | P_hat |' in rest


def test_results_of_other_settings_are_kept_and_named(reproduced: tuple[Path, str, str]) -> None:
    folder, *_ = reproduced
    before = read_results(folder / 'results')
    status, output = finish(command(*small(folder), '--config.batch_size=4'))
    assert status == 0 and 'was made with other settings (batch_size: 4 here, 8 there)' in output
    assert '2 of 2 runs are there' in output
    assert read_results(folder / 'results') == before


def test_attention_over_epochs_is_drawn(reproduced: tuple[Path, str, str]) -> None:
    folder, *_ = reproduced
    options = [x for x in small(folder) if not x.startswith(('--table', '--systems'))]
    status, output = finish(command('--figure=1', *options, cache=folder / 'compiled'))
    path = folder / 'results' / 'figures' / 'figure1_synthetic.png'
    assert status == 0 and f'Figure: {path}' in output and path.stat().st_size > 10_000, output


@pytest.mark.parametrize('number', [4, 5])
def test_figures_are_drawn_from_runs(number: int, reproduced: tuple[Path, str, str]) -> None:
    folder, *_ = reproduced
    config = read_config(str(folder / 'runs' / 'synthetic_taclnet_fold3_seed0_slices3'))
    places = {'workdir': folder / 'runs', 'results': folder / 'results'}
    options = {'systems': None, 'fold': 3, 'seed': 0, 'section': 9}
    path = make_figure(number, config, **options, **places)
    assert path == folder / 'results' / 'figures' / f'figure{number}_synthetic.png'
    assert path.stat().st_size > 10_000
    with pytest.raises(InputError, match='8 to 11; found 0'):
        make_figure(number, config, **(options | {'section': 0}), **places)
    with pytest.raises(InputError, match='fold 1'):
        make_figure(number, config, **(options | {'fold': 1}), **places)
