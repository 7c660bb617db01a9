"""The command for the minutes of an accelerator: its stages, those that fail, what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import ROOT, run

from benchmarks.accelerator import STAGES, Measurement, Stage
from benchmarks.on_device.page import NOT_MEASURED
from benchmarks.on_device.report import Report

FILES = {'accelerator.json', 'accelerator.md', 'accelerator.log'}

# Stages of this test, as modules.
MEASURES = """
def measure(report):
    report.fact('device', 'Abacus')
    table = report.table('Rates', ('slow', 'fast'), ('one', 'two'), first='what')
    table.set('one', 'slow', [123.4, 0.01234])
    with report.part('the other half'):
        raise ValueError('Broken beads.')
    report.files({'more.json': '{}'})
"""
FAILS = """
def measure(report):
    assert report.known('device') == 'Abacus'
    report.table('Nothing', ('rate',), ('one',)).set('one', 'rate', 3)
    raise ValueError('No beads.')
"""
RUNS_OVER = """
import subprocess, sys, time
def measure(report):
    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])
    report.table('Child', ('number',)).set('one', 'number', child.pid)
    time.sleep(300)
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {'measures': MEASURES, 'fails': FAILS, 'runs_over': RUNS_OVER}.items():
        (tmp_path / f'{name}.py').write_text(text)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))


def is_alive(pid: int) -> bool:
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != 'Z'  # it has ended, whoever is to ask for its status


@pytest.mark.slow
@pytest.mark.usefixtures('modules')
@pytest.mark.skipif(not Path('/proc').exists(), reason='looks into /proc')
def test_stages_that_fail_or_run_over_are_reported_and_the_next_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / 'output'
    output.mkdir()
    stages = [
        Stage(1, 'Begins', 'measures', 1),
        Stage(2, 'Fails', 'fails', 1),
        Stage(3, 'Runs over', 'runs_over', 0.2),
        Stage(4, 'Is missing', 'no_such_module', 1),
    ]
    start = time.monotonic()
    assert not Measurement(stages, output, 30, quick=True).run()
    assert time.monotonic() - start < 25

    assert {path.name for path in output.iterdir()} == FILES | {'more.json'}
    record = json.loads((output / 'accelerator.json').read_text())
    states = [stage['state'] for stage in record['stages'].values()]
    assert states[0].startswith('finished after')
    assert states[1].startswith('failed (ValueError: No beads.) after')
    assert states[2].startswith('ran over its ')
    assert states[3].startswith('failed (ModuleNotFoundError')
    assert not is_alive(record['stages']['3']['tables'][0]['rows']['one']['number'])

    page = (output / 'accelerator.md').read_text()
    assert page.startswith('## On Abacus\n')
    assert f'| one | 123 (0.0123) | {NOT_MEASURED} |' in page
    assert f'| two | {NOT_MEASURED} | {NOT_MEASURED} |' in page
    assert 'Failed: the other half: Broken beads.' in page
    assert '| one | 3 |' in page  # of the stage that failed later
    assert 'ValueError: No beads.' in (output / 'accelerator.log').read_text()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(':')[0] for line in lines] == [f'{s.number} {s.title}' for s in stages]
    assert 'without the other half' in lines[0]


@pytest.mark.usefixtures('modules')
def test_what_there_is_no_time_for_is_not_measured(tmp_path: Path) -> None:
    assert Measurement([Stage(1, 'Begins', 'measures', 1)], tmp_path, 1, quick=True).run()
    assert 'Not measured: the time is over.' in (tmp_path / 'accelerator.md').read_text()


def test_a_report_is_whole_after_every_cell(tmp_path: Path) -> None:
    path = tmp_path / 'report.json'
    report = Report(path, tmp_path / 'none', tmp_path, 10, quick=True)
    table = report.table('Rates', ('rate',))
    for value in (1, 2.5):
        table.set('one', 'rate', value)
        assert json.loads(path.read_text())['tables'][0]['rows']['one']['rate'] == value
    assert report.known('rate') is None and 9 < report.seconds_left <= 10


def test_who_starts_the_stages_does_not_hold_the_device() -> None:
    text = 'import sys, benchmarks.accelerator, benchmarks.on_device.__main__; print(*sys.modules)'
    done = subprocess.run(
        [sys.executable, '-c', text], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 'jax' not in done.stdout.split()


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (['--output=here'], '--minutes'),
        (['--minutes=8'], '--output'),
        (['--minutes=0', '--output=here'], "expected a number above 0, found '0'"),
        (['--minutes=soon', '--output=here'], "found 'soon'"),
        (['--minutes=8', '--output=here', '--stages=1,9'], 'out of 1,2,3,4,5,6,7'),
        (['--minutes=8', '--output=here', '--fast'], '--fast'),
        (['--minutes=8', '--output=pyproject.toml'], 'pyproject.toml'),
    ],
)
def test_bad_arguments(
    refused: Callable[..., str],
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / 'pyproject.toml').touch()
    monkeypatch.chdir(tmp_path)
    assert expected in refused(*arguments, module='benchmarks.accelerator')
    assert [path.name for path in tmp_path.iterdir()] == ['pyproject.toml']


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'benchmarks.accelerator', '--minutes=10', '--quick']
    done = subprocess.run(
        [*command, '--stages=1', f'--output={tmp_path}'], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith('1 Device and roofline: finished after ')
    assert {path.name for path in tmp_path.iterdir()} == FILES


class Rehearsal(Measurement):
    """Stages in this process: to start JAX takes longer than most of them do."""

    def _run_stage(self, stage: Stage, limit: float, scratch: Path) -> str:
        report, known = scratch / f'{stage.number}.json', self._output / 'accelerator.json'
        flags = [f'--report={report}', f'--known={known}', f'--scratch={scratch}']
        flags += [f'--seconds={limit}', '--quick']
        status, output = run(stage.module, *flags, module='benchmarks.on_device')
        self._take(stage, report)
        self._log += output
        return 'failed' if status else 'finished'


@pytest.mark.slow
def test_the_rehearsal_measures_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # for what stages start
    succeeded = Rehearsal(STAGES, tmp_path, 600, quick=True).run()
    assert succeeded, (tmp_path / 'accelerator.log').read_text()
    assert {path.name for path in tmp_path.iterdir()} == FILES | {'runs.json'}
    record = json.loads((tmp_path / 'accelerator.json').read_text())
    assert len(record['stages']) == len(STAGES)
    missing = {
        row
        for stage in record['stages'].values()
        for table in stage['tables']
        for row, cells in table['rows'].items()
        if cells.keys() != set(table['columns'])
    }
    # PyTorch is not among what the tests need.
    assert all('PyTorch' in row or row == 'shipped, others' for row in missing), missing
    for stage in record['stages'].values():
        assert stage['state'].startswith('finished'), stage['state']
        assert stage['title'] in (tmp_path / 'accelerator.md').read_text()
    pairs, stored, *_ = record['stages']['2']['tables']
    assert all(row['that differ'] == 0 < row['pairs'] for row in pairs['rows'].values())
    assert all(row['xla'] == row['gudhi'] == 0 for row in stored['rows'].values())
    (result,) = json.loads((tmp_path / 'runs.json').read_text())
    assert result == 'shipped/synthetic_convlstm_fold3_seed0_slices3.json'
