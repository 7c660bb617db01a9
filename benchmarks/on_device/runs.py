"""Stage 7: runs of the tables in the time that is left, side by side.

`python -m reproduction` makes them, as anyone would. This process computes nothing itself, so that
the whole device is theirs; before the stage ends it lets them save, and reads how far they came.
Finished runs' files of results are kept in one file, `runs.json`, by their names.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.on_device.report import Report, Table
from reproduction.systems import SYSTEMS, Run
from taclnet_jax.cores import available_cores

SAVING_S = 12
"""Before the stage ends, for runs to stop and the table to be written."""

LOOK_S = 2.0
JOB_BYTES = 10 * 2**30
"""Of a device's memory, for each of the runs side by side."""

STRONGEST = ('flagship', 'unet', 'topoloss', 'taclnet')
LONG = ('--config.phase_one.epochs=350', '--config.phase_two.epochs=15')
# Of seconds on a CPU.
_TINY = (
    '--config.synthetic.shape=(12, 48, 48)',
    '--config.downsample=1',
    '--config.crop=(24, 24)',
    '--config.model.hidden=(4,)',
    '--config.phase_one.epochs=1',
    '--config.phase_two.epochs=1',
    '--config.evaluate.test_sections=1',
    '--config.evaluate.betti_patches=5',
    '--config.evaluate.betti_patch=16',
)
SCORES = {'dice': 'DICE', 'ari': 'ARI', 'voi': 'VOI', 'betti_error': 'Betti error'}


@dataclass(frozen=True)
class Batch:
    """A call of `reproduction`.

    Attributes:
        name: of its folder. Calls of one name share results, so that none is made twice.
        systems, folds, seeds: of the runs.
        changes: flags that change the data set's configuration.
    """

    name: str
    systems: tuple[str, ...]
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    changes: tuple[str, ...] = ()

    @property
    def flags(self) -> list[str]:
        """Of the command."""
        lists = {'systems': self.systems, 'folds': self.folds, 'seeds': self.seeds}
        return [
            *(f'--{name}={",".join(map(str, values))}' for name, values in lists.items()),
            *self.changes,
        ]

    def keys(self, dataset: str) -> list[str]:
        """The names of its runs."""
        return [
            Run(dataset, system, fold, seed).key
            for seed in self.seeds
            for fold in self.folds
            for system in self.systems
        ]


def batches(quick: bool) -> list[Batch]:
    """In their order."""
    if quick:
        return [Batch('shipped', ('convlstm',), (3,), (0,), _TINY)]
    return [
        Batch('shipped', STRONGEST, (3,), (0,)),
        Batch('long', STRONGEST, (3,), (0,), LONG),
        Batch('long', tuple(SYSTEMS), (3, 1, 2), (0, 1, 2), LONG),
    ]


def measure(report: Report) -> None:
    """Makes runs, one batch after the other, until the time is over."""
    dataset = 'synthetic' if report.quick else 'isbi12'
    jobs = side_by_side(report)
    table = report.table(
        f'Runs of {dataset}, {jobs} side by side',
        ('state', 'updates', 'seconds', *SCORES.values()),
        first='run',
        note='"shipped" has the schedule of configs/, "long" 350 and 15 epochs. Scores are of P '
        'or, where attention was trained, P_hat.',
    )
    if not report.quick and not os.environ.get('TACLNET_DATA_DIR'):
        raise RuntimeError('ISBI12 is wanted, and TACLNET_DATA_DIR names no folder of raw files.')
    for batch in batches(report.quick):
        with report.part(batch.name):
            _make(report, table, batch, dataset, jobs)
        if report.seconds_left < 2 * SAVING_S:
            break


def side_by_side(report: Report) -> int:
    """As many as have cores to score with and, each, a part of the device's memory."""
    cores = len(available_cores())
    if report.known('platform') == 'tpu':  # which one process holds
        return 1
    memory = report.known('memory_bytes')
    by_memory = cores if memory is None else int(memory // JOB_BYTES)
    return max(1, min(cores // 2, by_memory))


def _make(report: Report, table: Table, batch: Batch, dataset: str, jobs: int) -> None:
    folder = report.scratch / 'reproduction' / batch.name
    command = [sys.executable, '-m', 'reproduction', '--table=1', f'--dataset={dataset}']
    command += [f'--config={dataset}', f'--config.prepared_dir={report.scratch / "prepared"}']
    command += [f'--results={folder / "results"}', f'--workdir={folder / "runs"}']
    process = subprocess.Popen([*command, f'--jobs={jobs}', *batch.flags])
    while process.poll() is None:
        time.sleep(LOOK_S)
        _look(report, table, batch, folder, batch.keys(dataset))
        if report.seconds_left < SAVING_S:
            process.terminate()
            process.wait()
    waiting = _look(report, table, batch, folder, batch.keys(dataset))
    table.set(f'{batch.name}, others', 'state', f'{waiting} not started')
    if process.returncode not in (0, 128 + signal.SIGTERM):
        raise RuntimeError(f'python -m reproduction ended with status {process.returncode}.')


def _look(report: Report, table: Table, batch: Batch, folder: Path, keys: list[str]) -> int:
    """Notes what has come of the runs; how many have not begun."""
    waiting = 0
    for key in keys:
        row, result = f'{batch.name}, {key}', folder / 'results' / f'{key}.json'
        if result.exists():
            _note_result(table, row, json.loads(result.read_text()))
        elif (folder / 'runs' / key).exists():
            table.set(row, 'state', f'unfinished, {_progress(folder / "runs" / key)}')
        else:
            waiting += 1
    every = sorted((report.scratch / 'reproduction').glob('*/results/*_fold*.json'))
    texts = {f'{path.parts[-3]}/{path.name}': json.loads(path.read_text()) for path in every}
    report.files({'runs.json': json.dumps(texts) + '\n'})
    return waiting


def _note_result(table: Table, row: str, result: dict[str, Any]) -> None:
    table.set(row, 'state', 'finished')
    table.set(row, 'updates', result['updates'])
    table.set(row, 'seconds', result['seconds']['wall'])
    for name, column in SCORES.items():
        scores = result[SYSTEMS[result['system']].scored]['scores'][name]
        table.set(row, column, mean(scores))


def _progress(run: Path) -> str:
    """How many of its epochs a run has made."""
    try:
        config = json.loads((run / 'config.json').read_text())
        last = (run / 'metrics.jsonl').read_text().splitlines()[-1]
        epochs = sum(config[phase]['epochs'] for phase in ('phase_one', 'phase_two'))
        return f'{json.loads(last)["epoch"]} of {epochs} epochs'
    except (OSError, ValueError, LookupError):  # it has hardly begun
        return 'no epoch'
