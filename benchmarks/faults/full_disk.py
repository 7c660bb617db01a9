"""A disk that is too small, in a mount namespace of its own.

`python -m benchmarks.faults.full_disk` mounts a small file system at a folder, runs a command
there, looks at what is left, makes room, and runs the command again. What it found is its last line
of output, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.faults import runs
from benchmarks.faults.stage import LeftOut, Outcome, Piece, Place
from taclnet_jax.errors import InputError
from taclnet_jax.inference import load

CASES = ('checkpoint', 'log', 'prediction')
_ROOM = '1g'


@contextlib.contextmanager
def opened(place: Place) -> Iterator[Piece]:
    """One disk a piece, of any size up to what the command needs."""
    if os.geteuid() != 0 or not all(map(shutil.which, ('mount', 'unshare'))):
        raise LeftOut('it takes root, mount and unshare')

    def piece(number: int, rng: Random) -> Outcome:
        case, network = CASES[number % len(CASES)], runs.NETWORKS[number // len(CASES) % 2]
        undisturbed = runs.undisturbed(network, place.scratch)
        folder = place.scratch / 'disk'
        folder.mkdir(exist_ok=True)
        whole = undisturbed.prediction if case == 'prediction' else undisturbed.run
        size = 4096 + int(occupied(whole) * rng.random())
        if case == 'log':  # of a run that goes on, and has hardly any room to begin with
            size = 4096 * rng.randrange(5)
        done = subprocess.run(
            ['unshare', '--mount', sys.executable, '-m', 'benchmarks.faults.full_disk']
            + [case, network, str(place.scratch), str(size)],
            env=runs.environment(place.scratch),
            capture_output=True,
            text=True,
        )
        if 'unshare:' in done.stderr or 'mount:' in done.stderr:
            raise LeftOut('no small file system can be mounted here')
        label = f'{case}: a message, earlier files whole, went on to the same end'
        try:
            found = json.loads(done.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            return Outcome('wrong', f'{case} {number}: {done.stderr[-400:]}')
        if found['had_room']:
            return Outcome(f'{case}: there was room', times=0)
        expected = undisturbed.bytes if case == 'prediction' else undisturbed.end
        wrong = found['wrong'] or runs.differences(expected, found['end'])
        where = f'{case} {network} {number}, {size} bytes: {wrong}'
        return Outcome('wrong', where) if wrong else Outcome(label)

    yield piece


def occupied(folder: Path) -> int:
    """What a folder takes on a disk of pages."""
    files = [path for path in folder.rglob('*') if path.is_file()]
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in files)


def _tried(case: str, network: str, scratch: Path, size: int) -> dict[str, Any]:
    undisturbed = runs.undisturbed(network, scratch)
    disk = scratch / 'disk'
    run, output, log = disk / 'run', disk / 'output', scratch / 'disk.log'
    copied = 2 * occupied(undisturbed.run) if case == 'log' else 0
    _mount(disk, str(max(size, copied)))
    if case == 'log':
        shutil.copytree(undisturbed.run, run)
        steps = sorted((run / 'checkpoints' / 'last').glob('[0-9]*'), key=lambda p: int(p.name))
        shutil.rmtree(steps[-1])
        (run / 'results.json').unlink()
        (disk / 'others').write_bytes(bytes(shutil.disk_usage(disk).free - size))
    arguments = (
        runs.predicting(undisturbed.run, undisturbed.stack, output)
        if case == 'prediction'
        else runs.training(network, run)
    )
    before = _readable(run)
    status = runs.ended(runs.start(arguments, scratch, log))
    if status == 0:
        return {'had_room': True}
    wrong, text = '', log.read_text(errors='replace')
    messages = [line for line in text.splitlines() if line.startswith('taclnet: error: ')]
    if status != 2 or len(messages) != 1 or 'Traceback' in text:
        wrong = f'status {status}: {runs.tail(log)}'
    wrong = wrong or _lost(before, _readable(run), output)
    _mount(disk, _ROOM, 'remount,')
    (disk / 'others').unlink(missing_ok=True)
    try:
        runs.finish(runs.start(arguments, scratch, log), log)
    except RuntimeError as error:
        return {'had_room': False, 'wrong': wrong or f'after room was made: {error}', 'end': {}}
    if 'cannot be read' in log.read_text(errors='replace'):
        wrong = wrong or f'damaged: {runs.tail(log)}'
    end = runs.bytes_of(output) if case == 'prediction' else runs.end_of(run)
    return {'had_room': False, 'wrong': wrong, 'end': end}


def _mount(folder: Path, size: str, how: str = '') -> None:
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'{how}size={size}', 'tmpfs', folder], check=True)


def _readable(run: Path) -> str:
    """What a reader finds of a run: its step, or why not."""
    try:
        return str(load(run).step)
    except InputError as error:
        return str(error)


def _lost(before: str, after: str, output: Path) -> str:
    if before.isdecimal() and not after.isdecimal():
        return f'step {before} could be read before, now: {after}'
    if 'cannot be read' in after:
        return after
    return f'a part of {output}' if output.exists() else ''


def main() -> None:
    """Tries one disk."""
    case, network, scratch, size = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):
        found = _tried(case, network, Path(scratch), int(size))
    print(json.dumps(found))


if __name__ == '__main__':
    main()
