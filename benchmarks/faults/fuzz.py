"""Files with damage of all sorts are read by processes of their own, which may not die of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

from benchmarks.faults.mutations import damage
from benchmarks.faults.reader import WRONG
from benchmarks.faults.runs import environment, kill
from benchmarks.faults.stage import Outcome, Piece, Place
from benchmarks.faults.whole_files import KINDS, write_all
from taclnet_jax.files import parse_json, replacing

_LIMIT_S = 60.0
"""For a file, on a busy machine; more is a hang."""


class Reader:
    """A process of `reader.py`, started again where it died."""

    def __init__(self, place: Place) -> None:
        self._scratch, self._log = place.scratch, place.scratch / 'reader.log'
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, kind: str, path: Path) -> tuple[str, str]:
        """What came out, and more about it."""
        if self._process is None:
            with self._log.open('wb') as log:
                self._process = subprocess.Popen(
                    [sys.executable, '-m', 'benchmarks.faults.reader'],
                    env=environment(self._scratch),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                )
            self._answer(10 * _LIMIT_S, kind, path)  # what it imports is not the file's
        return self._answer(_LIMIT_S, kind, path)

    def _answer(self, seconds: float, kind: str, path: Path) -> tuple[str, str]:
        process = self._process
        assert process is not None and process.stdin and process.stdout
        process.stdin.write(json.dumps([kind, str(path)]).encode() + b'\n')
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        if ready and (line := process.stdout.readline()):
            outcome, detail = json.loads(line)
            return outcome, detail
        self.close()
        if not ready:
            return WRONG, f'no end within {seconds:.0f} s'
        lines = self._log.read_text(errors='replace').strip().splitlines()
        return WRONG, f'died with status {process.returncode}: {" / ".join(lines[-3:])[-400:]}'

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            kill(self._process)
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()
            self._process = None


def mutated(whole: Path, case: Path, kind: str, rng: Random) -> str:
    """A copy of one of the files of a kind, with damage; says what was done to which of its files.

    Args:
        whole: of `write_all`.
        case: file or folder that it becomes.
        kind: of `KINDS`.
    """
    chosen = rng.choice(sorted((whole / kind).iterdir()))
    if case.is_dir():
        shutil.rmtree(case)
    else:
        case.unlink(missing_ok=True)
    if chosen.is_dir():
        shutil.copytree(chosen, case)
    else:
        shutil.copyfile(chosen, case)
    files = [case] if case.is_file() else sorted(f for f in case.rglob('*') if f.is_file())
    if kind in ('config', 'results'):
        files = [case / f'{kind}.json']
    elif kind == 'checkpoint':
        files = [file for file in files if 'best' in file.relative_to(case).parts]
    about = [f for f in files if f.name.startswith(('.z', 'zarr', 'attributes', 'info', '_', 'm'))]
    file = rng.choice(about if about and rng.random() < 0.5 else files)
    way = rng.random()
    if way < 0.03 and case.is_dir():
        file.unlink()
        how = 'gone'
    elif way < 0.06:  # a file of any other kind
        others = sorted(f for f in whole.rglob('*') if f.is_file() and f.stat().st_size < 10**6)
        other = rng.choice(others)
        shutil.copyfile(other, file)
        how = f'is {other.relative_to(whole)}'
    else:
        how = damage(file, rng)
    if kind == 'safetensors' and rng.random() < 0.5:
        _sum_again(case)  # as whoever means harm would
    name = file.name if file == case else str(file.relative_to(case))
    return f'{chosen.name} {name} {how}'


def _sum_again(model: Path) -> None:
    with contextlib.suppress(ValueError, TypeError, FileNotFoundError):
        description = parse_json((model / 'model.json').read_text())
        content = (model / 'model.safetensors').read_bytes()
        described = description | {'sha256': hashlib.sha256(content).hexdigest()}
        (model / 'model.json').write_text(json.dumps(described))


@contextlib.contextmanager
def opened(place: Place) -> Iterator[Piece]:
    """Reads one file a piece; the kinds take turns."""
    whole = place.scratch / 'whole_files'
    if not whole.exists():
        with replacing(whole) as partial:
            write_all(partial)
    reader, kinds = Reader(place), list(KINDS)

    def piece(number: int, rng: Random) -> Outcome:
        kind = kinds[number % len(kinds)]
        suffix = {'tiff': '.tif', 'hdf5': '.h5', 'npz': '.npz'}.get(kind, '')
        case = place.scratch / f'case{suffix}'
        done = mutated(whole, case, kind, rng)
        outcome, detail = reader.read(kind, case)
        if outcome != WRONG:
            return Outcome(outcome)
        kept = place.keep(case, f'fuzz_{number}_{kind}{suffix}')
        return Outcome(WRONG, f'{kept.name} ({done}): {detail}')

    with contextlib.closing(reader):
        yield piece
