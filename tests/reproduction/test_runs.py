"""The runs of the tables."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from reproduction import runs as reproduction
from reproduction.systems import Run
from taclnet_jax.config import get_config
from taclnet_jax.errors import InputError


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
