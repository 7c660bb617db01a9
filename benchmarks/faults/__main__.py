"""Proves that nothing is lost and nothing silently wrong, by faults on purpose.

    python -m benchmarks.faults --output=DIR --quick

Kills, signals, readers, damaged checkpoints and files, full disks, long runs: docs/reliability.md.
With --quick about 10 minutes of two cores, without about 2 hours. After each piece what is known is
written into DIR: faults.md and faults.json, from which the same command goes on where it was
stopped. Files that something was wrong with are kept in DIR/kept. Status 1: something was wrong.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, NoReturn

from benchmarks.faults import damaged, epochs, full_disk, fuzz, killed
from benchmarks.faults.stage import LeftOut, Outcome, Place, Stage
from benchmarks.faults.whole_files import KINDS
from taclnet_jax.commandline import allow_callbacks, fail, interrupt, unraisable, with_messages
from taclnet_jax.errors import InputError
from taclnet_jax.files import write_text

_DAMAGED = 'named, the one before taken, never loaded silently'
_SAME = 'the same bits of parameters, optimizer, ITA memory, scores, prediction'
_STOPPED = 'saved within 10 s, status 143, the same bits in the end'
_UNNOTICED = 'the training does not notice: the same bits'
_FULL = 'a message, earlier files whole, goes on after room was made'
_CONSTANT = 'memory, files, threads constant'
_READ = 'a message, or values'
STAGES = (
    Stage('truncated', 'checkpoint truncated', _DAMAGED, 200, 20, damaged.opened('truncated')),
    Stage('deleted', 'checkpoint deleted in part', _DAMAGED, 200, 20, damaged.opened('deleted')),
    Stage(
        'flipped', 'one bit of a checkpoint flipped', _DAMAGED, 200, 20, damaged.opened('flipped')
    ),
    Stage('fuzz', f'files of {len(KINDS)} kinds with damage', _READ, 10_000, 500, fuzz.opened),
    Stage('killed', 'SIGKILL at any moment', _SAME, 50, 8, killed.killed),
    Stage('terminated', 'SIGTERM at any moment', _STOPPED, 20, 2, killed.terminated),
    Stage('read', 'a run opened while it trains', _UNNOTICED, 1000, 60, killed.read_meanwhile),
    Stage('disk', 'a full disk', _FULL, 30, 3, full_disk.opened),
    Stage('epochs', 'epochs of a tiny run', _CONSTANT, 2000, 60, epochs.opened),
)


class Report:
    """What is known so far, in `faults.json` and `faults.md` of a folder.

    Raises:
        InputError: the folder holds the report of another command.
    """

    def __init__(self, output: Path, stages: Sequence[Stage], seed: int, quick: bool) -> None:
        self._output, self._stages, self._written = output, stages, -1.0
        self._record: dict[str, Any] = {'seed': seed, 'quick': quick, 'stages': {}}
        path = output / 'faults.json'
        if path.exists():
            found = json.loads(path.read_text())
            if (found['seed'], found['quick']) != (seed, quick):
                raise InputError(
                    f'{path} is of seed {found["seed"]}{" and --quick" * found["quick"]}; go on '
                    'with these, or choose another --output.'
                )
            self._record = found

    def of(self, stage: Stage) -> dict[str, Any]:
        """A stage's entry."""
        count = stage.quick if self._record['quick'] else stage.whole
        new = {'of': count, 'times': 0, 'pieces': 0, 'came': {}, 'wrong': [], 'seconds': 0.0}
        return self._record['stages'].setdefault(stage.name, new)

    def add(self, stage: Stage, outcome: Outcome, seconds: float) -> None:
        """Takes in what came of a piece, and writes all, once a second at most."""
        entry = self.of(stage)
        entry['pieces'] += 1
        entry['times'] += outcome.times
        entry['seconds'] += seconds
        entry['came'] = dict(Counter(entry['came']) + Counter({outcome.label: outcome.times}))
        entry['wrong'] += [outcome.wrong] * bool(outcome.wrong)
        if time.monotonic() > self._written + 1:
            self.write()

    def write(self) -> None:
        """Writes the files."""
        self._written = time.monotonic()
        write_text(self._output / 'faults.json', json.dumps(self._record, indent=1) + '\n')
        write_text(self._output / 'faults.md', self._page())

    def _page(self) -> str:
        lines = ['| fault | expected | how often | what came out | wrong | s |', '|---' * 6 + '|']
        wrong = []
        for stage in self._stages:
            if (entry := self._record['stages'].get(stage.name)) is None:
                continue
            came = ', '.join(f'{label} ({n})' for label, n in entry['came'].items())
            often = f'{entry["times"]}' + f' of {entry["of"]}' * (entry['times'] < entry['of'])
            cells = [stage.fault, stage.expected, often, entry.get('left_out', came)]
            cells += [str(len(entry['wrong'])), f'{entry["seconds"]:.0f}']
            lines.append(f'| {" | ".join(cells)} |')
            wrong += [f'- {stage.name}: {text}' for text in entry['wrong']]
        return '\n'.join([*lines, *([''] if wrong else []), *wrong]) + '\n'


def prove(
    output: Path, stages: Sequence[Stage], names: Sequence[str], seed: int, quick: bool
) -> int:
    """Runs the stages of these names; how often something was wrong."""
    output = output.absolute()  # as messages name what is in it
    scratch = output / 'scratch'
    scratch.mkdir(parents=True, exist_ok=True)
    report = Report(output, stages, seed, quick)
    for stage in stages:
        entry = report.of(stage) if stage.name in names else None
        if entry is None or entry['times'] >= entry['of']:
            continue
        entry.pop('left_out', None)
        try:
            with stage.open(Place(scratch, output / 'kept', entry['of'])) as piece:
                while entry['times'] < entry['of']:
                    number, begin = entry['pieces'], time.monotonic()
                    outcome = piece(number, Random(f'{seed} {stage.name} {number}'))
                    report.add(stage, outcome, time.monotonic() - begin)
        except LeftOut as reason:
            entry['left_out'] = f'left out: {reason}'
        finally:
            report.write()
        print(f'{stage.name}: {entry["times"]} times, {len(entry["wrong"])} wrong.', flush=True)
    shutil.rmtree(scratch)
    return sum(len(report.of(stage)['wrong']) for stage in stages if stage.name in names)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        fail(message)


def _names(text: str) -> list[str]:
    there = [stage.name for stage in STAGES]
    if not set(text.split(',')) <= set(there):
        raise argparse.ArgumentTypeError(
            f'expected names out of {",".join(there)}, found {text!r}.'
        )
    return text.split(',')


def main() -> None:
    """Runs the command."""
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--output', type=Path, required=True, help='folder of what is found')
    parser.add_argument('--quick', action='store_true', help='smaller counts')
    every = [stage.name for stage in STAGES]
    parser.add_argument('--only', type=_names, default=every, help=f'out of {",".join(every)}')
    parser.add_argument('--seed', type=int, default=0, help='of all that is at random')
    args = parser.parse_args()
    # As by Ctrl-C: the processes that it started are ended, too.
    signal.signal(signal.SIGTERM, interrupt)
    sys.unraisablehook = unraisable
    # Of libraries that tell of what was damaged on purpose.
    for name in ('absl', 'asyncio'):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if prove(args.output, STAGES, args.only, args.seed, args.quick):
        sys.exit(1)


if __name__ == '__main__':
    allow_callbacks()
    with_messages(main)
