"""Numbers and notes of the tables, and their forms."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from reproduction.comparison import interval
from reproduction.notes import COMPARED
from reproduction.systems import SYSTEMS
from reproduction.table_formats import comma_separated, escape, latex, markdown
from reproduction.tables import Table, make_tables


def cells(table: Table, row: str) -> dict[str, Any]:
    """The entries of a row by the titles of their columns."""
    (entries,) = [entries for entries in table.body if entries[0].text == row]
    return dict(zip(table.header, entries, strict=True))


def closed(made: dict[str, Any], ari: float) -> dict[str, Any]:
    """A result whose closed P_hat has that score in all sections."""
    of_map = made['P_hat_closed']
    scores = of_map['scores'] | {'ari': [ari] * len(made['sections'])}
    return made | {'P_hat_closed': of_map | {'scores': scores}}


def test_a_cell_is_the_mean_and_deviation_over_folds_of_means_over_sections(result):
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


def test_plain_systems_are_scored_by_p(result):
    table, at_test, *_ = make_tables(1, 'isbi12', [result('unet', dice=[0.9, 0.9])])
    assert cells(table, 'U-Net')['map'].text == 'P'
    assert cells(table, 'U-Net')['DICE'].text == '0.1000'  # of one fold: no deviation
    assert cells(at_test, 'U-Net')['map'].text == 'P_hat'
    assert cells(at_test, 'U-Net')['DICE'].text == '0.9000'
    assert len(at_test.body) == sum(s.scored == 'P' for s in SYSTEMS.values())


def test_the_poster_stands_beside_and_missing_runs_are_named(result):
    table, *_ = make_tables(1, 'isbi12', [result()])
    columns = table.header
    dive = [entries for entries in table.body if entries[0].text == 'DIVE'][0]
    assert dive[columns.index('DICE')].text == 'no run yet'
    assert dive[columns.index('DICE') + 1].text == '0.9709 ± 0.0029'
    assert dive[columns.index('VOI') + 1].text == '1.235 ± 0.025'
    assert cells(table, 'DIVE')['runs'].text == '0'
    assert [entries[0].text for entries in table.body] == [s.title for s in SYSTEMS.values()]


def test_the_best_is_bold_and_differences_stand_by_fold(result):
    scores = {'flagship': (0.8, 0.7, 0.9), 'taclnet': (0.7, 0.65, 0.7), 'unet': (0.8, 0.7, 0.9)}
    results = [
        closed(result(system, fold), ari=values[fold - 1])
        for system, values in scores.items()
        for fold in (1, 2, 3)
    ]
    tables = make_tables(1, 'isbi12', results)
    (table,) = [table for table in tables if 'closed by watershed' in table.title]
    aris = {
        (entries[0].text, entries[1].text): entries[table.header.index('ARI')]
        for entries in table.body
    }
    assert aris['flagship', 'P_hat, closed'].bold and aris['U-Net', 'P_hat, closed'].bold
    assert not aris['TACLNet', 'P_hat, closed'].bold
    (table,) = [table for table in tables if 'Differences' in table.title]
    assert [entries[0].text for entries in table.body] == ['U-Net', 'TACLNet']
    # -0.1, -0.05, -0.2: mean -0.11667, deviation 0.07638, times 4.3027 / sqrt(3).
    assert cells(table, 'TACLNet')['ARI'].text == '-0.1167 ± 0.1897 (1, 2, 3)'
    assert cells(table, 'U-Net')['ARI'].text == '+0.0000 ± 0.0000 (1, 2, 3)'


def test_a_single_fold_has_no_interval(result):
    assert interval({3: 0.4}) is None
    assert interval({1: 0.0, 2: 2.0}) == pytest.approx(12.706, abs=1e-3)
    made = [closed(result('flagship'), ari=0.9), closed(result('unet'), ari=0.8)]
    made.append(closed(result('unet', fold=1), ari=0.1))
    (table,) = [t for t in make_tables(1, 'isbi12', made) if 'Differences' in t.title]
    assert cells(table, 'U-Net')['ARI'].text == '-0.1000 (3)'


def test_differences_are_those_of_the_rows_where_seeds_differ(result):
    made = [closed(result('unet'), ari=0.7)]
    made += [closed(result('flagship', seed=n), ari=ari) for n, ari in enumerate((0.9, 0.6, 0.3))]
    (table,) = [t for t in make_tables(1, 'isbi12', made) if 'Differences' in t.title]
    assert cells(table, 'U-Net')['ARI'].text == '+0.1000 (3)'


def test_rows_of_other_folds_stand_apart(result):
    results = [result('taclnet', fold, dice=[value, value]) for fold, value in ((1, 0.8), (3, 0.8))]
    results += [result('convlstm_sta', fold, dice=[0.7, 0.7]) for fold in (1, 3)]
    results.append(result('flagship_ita', 3, dice=[0.9, 0.9]))
    two, one, *_ = make_tables(1, 'isbi12', results)
    assert two.title.endswith('folds 1, 3') and one.title.endswith('fold 3')
    assert cells(two, 'TACLNet')['DICE'].bold
    assert cells(two, 'DIVE')['DICE'].text == 'no run yet'
    assert [entries[0].text for entries in one.body] == [SYSTEMS['flagship_ita'].title]
    assert not one.body[0][2].bold  # nothing to be better than


def test_the_lowest_voi_is_best(result):
    results = [result(voi=[0.7, 0.7]), result('flagship_ita', voi=[0.8, 0.8])]
    table, *_ = make_tables(1, 'isbi12', results)
    assert cells(table, 'TACLNet')['VOI'].bold
    assert not cells(table, SYSTEMS['flagship_ita'].title)['VOI'].bold


def test_closed_membranes_have_a_table_of_the_systems_that_have_a_run(result):
    made = result('taclnet', voi=[0.8, 0.8])
    for name, voi in (('P_closed', 0.6), ('P_hat_closed', 0.4)):
        scores = made[name]['scores'] | {'voi': [voi, voi]}
        made[name] = made[name] | {'closing': 0.2, 'scores': scores}
    tables = make_tables(1, 'isbi12', [made])
    (closed,) = [table for table in tables if 'closed' in table.title]
    assert 'poster' not in closed.header  # which closes none
    found = [(e[0].text, e[1].text, e[4].text) for e in closed.body]
    assert found == [('TACLNet', 'P, closed', '0.600'), ('TACLNet', 'P_hat, closed', '0.400')]
    assert closed.body[1][4].bold
    assert 'Closing of each run: lowest VOI on training sections.' in closed.notes
    left = 'No closing lowered that VOI, so these are the maps as they were: '
    assert not any(left in note for note in closed.notes)
    assert cells(tables[0], 'TACLNet')['VOI'].text == '0.800'
    made['P_closed']['closing'] = None
    (closed,) = [t for t in make_tables(1, 'isbi12', [made]) if 'closed' in t.title]
    assert f'{left}P, closed, of TACLNet, fold {made["fold"]}.' in closed.notes
    again = result('taclnet', seed=1)
    (closed,) = [t for t in make_tables(1, 'isbi12', [made, again]) if 'closed' in t.title]
    both = '; '.join(
        f'{map_}, closed, of TACLNet, fold {made["fold"]}, seed {seed}'
        for seed, map_ in ((0, 'P'), (1, 'P'), (1, 'P_hat'))
    )
    assert f'{left}{both}.' in closed.notes
    other = result('taclnet', slices=5)  # of table 3, which was closed nowhere
    made['P_closed']['closing'] = 0.2
    (closed,) = [t for t in make_tables(1, 'isbi12', [made, other]) if 'closed' in t.title]
    assert not any(left in note for note in closed.notes)


def test_without_a_run_the_posters_table_stands_alone():
    (table,) = make_tables(1, 'isbi12', [])
    assert cells(table, 'TACLNet')['VOI'].text == 'no run yet' and table.notes == [COMPARED]
    assert [len(make_tables(number, 'isbi12', [])) for number in (2, 3)] == [2, 1]


def test_attention_in_training_and_at_test_comes_from_the_same_runs(result):
    tables = make_tables(2, 'isbi12', [result('convlstm', dice=[0.9, 0.9])])
    assert len(tables) == 3  # none of the flagship at test
    assert cells(tables[0], 'ConvLSTM')['poster (CREMI)'].text == '1.785 ± 0.254'
    assert cells(tables[1], 'none / none')['DICE'].text == '0.1000'
    assert cells(tables[1], 'none / STA')['DICE'].text == '0.9000'
    assert cells(tables[1], 'STA+ITA / STA')['DICE'].text == 'no run yet'


def test_the_number_of_sections_with_time_per_epoch(result):
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


def test_numbers_of_sections_are_compared_on_the_folds_that_all_have(result):
    made = [result(fold=fold, ari=[0.1 * fold] * 2) for fold in (1, 2, 3)]
    alone, *others = make_tables(3, 'isbi12', made)
    assert not others and cells(alone, '3s')['ARI'].text.startswith('0.2000')
    assert not any('that all rows have' in note for note in alone.notes)
    made.append(result(fold=3, slices=5, ari=[0.5] * 2))
    table, *others = make_tables(3, 'isbi12', made)
    assert not others and [entries[0].text for entries in table.body] == ['1s', '3s', '5s']
    assert cells(table, '3s')['ARI'].text == '0.3000'
    assert cells(table, '5s')['ARI'].text == '0.5000' and cells(table, '5s')['ARI'].bold
    assert any('that all rows have' in note for note in table.notes)


def test_ablations_compare_seeds_that_all_rows_have(result):
    made = [result('flagship_sta', ari=[0.9] * 2), result('flagship_sta', seed=1, ari=[0.1] * 2)]
    made += [result('flagship_sta', fold=1, seed=seed, ari=[0.9] * 2) for seed in (1, 2)]
    made.append(result('flagship_ita', ari=[0.8] * 2))
    made.append(result('flagship_ita', fold=1, seed=2, ari=[0.8] * 2))
    whole, *_ = make_tables(1, 'isbi12', made)
    assert cells(whole, SYSTEMS['flagship_sta'].title)['ARI'].text.startswith('0.7000')
    table = next(t for t in make_tables(2, 'isbi12', made) if t.title.endswith('flagship'))
    assert cells(table, SYSTEMS['flagship_sta'].title)['ARI'].text.startswith('0.9000')
    assert cells(table, SYSTEMS['flagship_ita'].title)['ARI'].text.startswith('0.8000')
    assert any('that all rows have' in note for note in table.notes)
    other = [result(slices=5, ari=[0.5] * 2), result(ari=[0.7] * 2), result(seed=1, ari=[0.1] * 2)]
    (table,) = make_tables(3, 'isbi12', other)
    assert cells(table, '3s')['ARI'].text == '0.7000'
    assert any('that all rows have' in note for note in table.notes)
    apart = [result(slices=5), result(seed=1)]
    (table,) = make_tables(3, 'isbi12', apart)
    assert not any('that all rows have' in note for note in table.notes)


def test_numbers_of_sections_without_a_shared_fold_stand_apart(result):
    made = [result(fold=1), result(fold=2, slices=5)]
    assert len(make_tables(3, 'isbi12', made)) == 2


def test_times_of_different_hardware_are_not_mixed(result):
    table, *_ = make_tables(3, 'isbi12', [result(), result(seed=1, hardware='a GPU')])
    assert cells(table, '3s')['time per epoch'].text == '42 s (a GPU); 42 s (two cores)'


def test_made_up_content_and_reduced_settings_are_said(result):
    settings = {'downsample': 2, 'evaluate.threshold_from': 'fixed'}
    made = result(dataset='cremi', content='synthetic', settings=settings)
    table, *_ = make_tables(1, 'cremi', [made])
    assert 'SYNTHETIC CONTENT' in table.title
    assert set(table.notes) >= {
        'Networks see half the resolution in y and x; scored is the whole.',
        'Threshold: fixed.',
    }


def test_windows_that_need_more_sections_held_out_are_said(result):
    made = [result(settings={'validation_sections': 3})]
    table, *_ = make_tables(3, 'isbi12', made)
    assert not any('held out' in note for note in table.notes)
    made.append(result(slices=5, settings={'validation_sections': 5}))
    table, *_ = make_tables(3, 'isbi12', made)
    assert any('3 with l = 3, 5 with l = 5' in note for note in table.notes)


def test_random_features_are_said(result):
    for weights, said in (('', True), ('vgg19.npz', False)):
        made = result('mosinska', settings={'perceptual_loss.vgg19': weights})
        table, *_ = make_tables(1, 'isbi12', [made])
        assert any('random weights' in note for note in table.notes) == said


# Forms


def test_markdown_and_latex_carry_bold(result):
    results = [result(fold=f, dice=[0.9] * 6) for f in (1, 2)]
    results += [result('flagship_ita', f, dice=[0.1 * i for i in range(6)]) for f in (1, 2)]
    table, *_ = make_tables(1, 'isbi12', results)
    text = markdown([table, table])
    assert text.count('Mean ± sample standard deviation') == 1
    assert '**0.9000 ± 0.0000**' in text and ' 0.2500 ± 0.0000 ' in text
    rows = [line for line in text.splitlines() if line.startswith('|')]
    assert len({line.count('|') for line in rows}) == 1
    text = latex(table)
    assert r'\textbf{0.9000 $\pm$ 0.0000}' in text and r'0.2500 $\pm$ 0.0000 ' in text
    assert r'P\_hat' in text and 'P_hat' not in text.replace(r'P\_hat', '')
    rows = [line for line in text.splitlines() if line.endswith(r'\\')]
    assert {line.count(' & ') for line in rows} == {len(table.header) - 1}


def test_latex_escapes_its_special_characters():
    assert escape(r'50 % of a_b & {c} #1 $ ~ ^ \ <') == (
        r'50 \% of a\_b \& \{c\} \#1 \$ \textasciitilde{} \textasciicircum{} '
        r'\textbackslash{} $<$'
    )


def test_csv_has_a_line_for_each_metric(result):
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
