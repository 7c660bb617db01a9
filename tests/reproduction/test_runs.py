"""The runs of the tables: which are made, when, and what becomes of those that fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ml_collections import ConfigDict

from reproduction import runs as reproduction
from reproduction import schedule as schedules
from reproduction.systems import Run
from taclnet_jax.config import get_config
from taclnet_jax.errors import InputError


@pytest.fixture
def base() -> ConfigDict:
    config = get_config()
    config.synthetic.shape = (12, 40, 40)
    return config


def test_a_run_that_fails_keeps_no_other_from_being_made(base, tmp_path, monkeypatch, capsys):
    made = []

    def train(config: Any, folder: str) -> None:
        made.append(Path(folder).name)
        if 'unet' in folder:
            raise RuntimeError('out of memory')
        raise InputError('Expected another file.')

    monkeypatch.setattr(reproduction, 'train_and_evaluate', train)
    runs = [Run('synthetic', system, 3, 0) for system in ('unet', 'convlstm')]
    assert reproduction.Reproduction(base, tmp_path / 'results', tmp_path).make(runs) == runs
    assert made == [run.key for run in runs]
    said = capsys.readouterr().err
    assert 'Failed: U-Net' in said and 'out of memory' in said
    assert 'Expected another file.' in said and 'Finished 0 of 2' in said


def test_a_budget_is_measured_once_and_kept(base, tmp_path, monkeypatch, capsys):
    (tmp_path / 'synthetic_schedule.json').write_text('{"budget": ')  # damaged: measured anew
    spent = SimpleNamespace(fits=0)

    def fit(
        base: Any, path: Path, missing: Sequence[Run], asked: Mapping[str, Any], jobs: int
    ) -> None:
        spent.fits += 1
        schedule = asked['of'] | {'phase_one.epochs': 1}
        path.write_text(json.dumps(asked | {'schedule': schedule}))

    monkeypatch.setattr(schedules, 'fit_budget', fit)
    runs = [Run('synthetic', system, 3, 0) for system in ('unet', 'convlstm')]
    for minutes in (1e-9, 1e-9, 2e-9):
        made = reproduction.Reproduction(base, tmp_path / 'results', tmp_path)
        assert made.make(runs, minutes) == []
        said = capsys.readouterr().err
        assert 'Phase one has 1 epochs' in said and f'to take {minutes:g} minutes' in said
        assert '2 were not started: the budget is spent' in said
    assert spent.fits == 2


def test_side_by_side_a_budget_is_measured_by_a_process_of_its_own(base, tmp_path, monkeypatch):
    text = f"open({str(tmp_path / 'synthetic_schedule.json')!r}, 'w').write({{text!r}})"

    def measuring(*arguments: Any) -> Callable[[], None]:
        asked = arguments[4]
        schedule = json.dumps(asked | {'schedule': asked['of'] | {'phase_two.epochs': 1}})
        return partial(exec, text.format(text=schedule), {})

    monkeypatch.setattr(schedules, 'partial', measuring)
    runs = [Run('synthetic', system, 3, 0) for system in ('unet', 'convlstm')]
    places = {'results': tmp_path / 'results', 'workdir': tmp_path, 'missing': runs}
    found = schedules.choose_schedule(base, **places, budget_minutes=60, jobs=2)
    assert found['phase_two.epochs'] == 1
    text = "raise ValueError('out of memory')"
    with pytest.raises(InputError, match='could not be measured: out of memory'):
        schedules.choose_schedule(base, **places, budget_minutes=30, jobs=2)


class FakeJobs:
    """Two jobs; those whose names are in `fails` fail, the others make a phase one and end."""

    fails: Sequence[str] = ()
    last: FakeJobs

    def __init__(self, number: int) -> None:
        self.number = number
        self.calls: dict[str, Callable[[], None]] = {}
        self.halfway: set[str] = set()
        self.events: list[str] = []
        FakeJobs.last = self

    def __enter__(self) -> FakeJobs:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    @property
    def running(self) -> list[str]:
        return list(self.calls)

    @property
    def free(self) -> bool:
        return len(self.calls) < self.number

    def start(self, name: str, call: Callable[[], None]) -> None:
        self.events.append(f'{name} starts')
        self.calls[name] = call

    def wait(self) -> dict[str, str]:
        """The first one's phase one is finished, then the first one."""
        name = next(iter(self.calls))
        if name in self.fails:
            del self.calls[name]
            return {name: 'out of memory'}
        if name not in self.halfway:
            self.halfway.add(name)
            self.calls[name]()
            return {}
        del self.calls[name]
        self.events.append(f'{name} ends')
        return {name: ''}


@pytest.fixture
def side_by_side(base, tmp_path, monkeypatch) -> Callable[..., tuple[list[str], list[Run]]]:
    """Makes runs of systems by two fake jobs: what happened, and which runs failed."""

    def make_phase_one(self: Any, run: Run, config: ConfigDict) -> None:
        folder = tmp_path / run.key
        (folder / 'checkpoints' / 'phase_one' / '12').mkdir(parents=True)
        (folder / 'config.json').write_text(json.dumps(config.to_dict()))

    def make(systems: str, fails: tuple[str, ...] = ()) -> tuple[list[str], list[Run]]:
        runs = [Run('synthetic', system, 3, 0) for system in systems.split()]
        names = {run.key: run.system for run in runs}
        monkeypatch.setattr(FakeJobs, 'fails', [key for key in names if names[key] in fails])
        made = reproduction.Reproduction(base, tmp_path / 'results', tmp_path)
        failed = made.make(runs, jobs=2)
        happened = [event.split() for event in FakeJobs.last.events]
        return [f'{names[key]} {what}' for key, what in happened], failed

    monkeypatch.setattr(reproduction, 'Jobs', FakeJobs)
    monkeypatch.setattr(reproduction.Reproduction, '_make', make_phase_one)
    return make


def test_runs_side_by_side_wait_for_the_phase_one_that_they_share(side_by_side):
    happened, failed = side_by_side('convlstm taclnet dive')
    # DIVE has a phase one of its own, and TACLNet starts when ConvLSTM's is there and a job is.
    assert happened[:2] == ['convlstm starts', 'dive starts'] and not failed
    assert happened.index('taclnet starts') > happened.index('convlstm ends')


def test_they_wait_no_longer_than_for_phase_one(side_by_side):
    happened, _ = side_by_side('convlstm taclnet')
    assert happened[:3] == ['convlstm starts', 'taclnet starts', 'convlstm ends']


def test_another_makes_the_phase_one_of_a_run_that_failed(side_by_side):
    happened, failed = side_by_side('convlstm convlstm_sta taclnet', fails=('convlstm',))
    assert [run.system for run in failed] == ['convlstm']
    assert happened == [
        'convlstm starts',
        'convlstm_sta starts',
        'taclnet starts',
        'convlstm_sta ends',
        'taclnet ends',
    ]
