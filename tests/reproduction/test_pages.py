"""docs/results.md and the files of tables are what docs/make_results.py makes of results/."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pytest
from commands import ROOT

from reproduction.results import write_result


@pytest.fixture(scope='module')
def script() -> ModuleType:
    path = ROOT / 'docs' / 'make_results.py'
    spec = importlib.util.spec_from_file_location('make_results', path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_no_table_but_those_made(script):
    page = (ROOT / 'docs' / 'results.md').read_text()
    assert page == script.with_tables(page), 'Run python -m docs.make_results.'
    assert len(script.MARK.findall(page)) >= 4
    assert not re.search(r'^\|', script.MARK.sub('', page), re.MULTILINE)


def test_the_files_of_tables_are_those_made(script):
    there = {path.name: path.read_text() for path in (ROOT / 'results').glob('table*')}
    assert there == script.files_of_tables(), 'Run python -m docs.make_results.'


def test_pages_and_files_are_made_of_the_results_there_are(script, result, tmp_path):
    text = '<!-- table 1 isbi12 -->\n<!-- end of table -->\n'
    command = 'What has no run yet is made by `python -m reproduction --table=1 --dataset=isbi12`.'
    none = script.with_tables(text, tmp_path)
    assert '| TACLNet | P_hat | no run yet |' in none and command in none
    assert script.files_of_tables(tmp_path) == {}
    write_result(tmp_path, result(dice=[0.9, 0.8]))
    some = script.with_tables(none, tmp_path)
    assert '| TACLNet | P_hat | 0.8500 |' in some and command in some
    assert some == script.with_tables(some, tmp_path)
    (tmp_path / 'table1_isbi13.md').write_text('of results that are no more')
    script.write_files(tmp_path)
    names = {path.name for path in tmp_path.glob('table*')}
    assert names == {f'table{n}_isbi12.{end}' for n in (1, 2, 3) for end in ('md', 'tex', 'csv')}
    assert '0.8500' in (tmp_path / 'table1_isbi12.tex').read_text()


def test_a_short_table_has_the_systems_with_a_run_alone(script, result, tmp_path):
    text = '<!-- table 1 isbi12 isbi13 short -->\n<!-- end of table -->\n'
    none = script.with_tables(text, tmp_path)
    assert '--table=1 --dataset=isbi12' in none and '|' not in none
    write_result(tmp_path, result(dice=[0.9, 0.8]))
    some = script.with_tables(none, tmp_path)
    write_result(tmp_path, result('unet', dataset='isbi13'))
    some = script.with_tables(some, tmp_path)
    assert [line.split(' | ')[:2] for line in some.splitlines() if line.startswith('|')] == [
        ['| data', 'system'],
        ['| ---', '---'],
        ['| ISBI12', 'TACLNet'],
        ['| ISBI13 (SNEMI3D)', 'U-Net'],
    ]
    assert '#' not in some and some == script.with_tables(some, tmp_path)

    # The poster has scores of one of these, of maps that are not closed.
    write_result(tmp_path / 'other', result('unet'))
    write_result(tmp_path / 'other', result('flagship', dataset='isbi13'))
    some = script.with_tables(text, tmp_path / 'other')
    assert len({line.count(' | ') for line in some.splitlines() if line.startswith('|')}) == 1
