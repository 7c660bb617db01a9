"""A tiny run of many epochs: memory, open files, threads and files on disk stay as many."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from benchmarks.faults import runs
from benchmarks.faults.stage import Outcome, Piece, Place

_EVERY_S = 0.5
_GROWTH = {'memory_mb': 30.0, 'open_files': 1, 'threads': 1, 'files': 4}
"""What the last quarter may have more than the second; a leak of 0.03 MB an epoch shows in 2000."""


@contextlib.contextmanager
def opened(place: Place) -> Iterator[Piece]:
    """All epochs are one piece, each with a validation and a checkpoint."""
    epochs = place.count

    def piece(number: int, rng: Random) -> Outcome:
        run, log = place.scratch / 'epochs', place.scratch / 'epochs.log'
        shutil.rmtree(run, ignore_errors=True)
        changes = {'phase_one__epochs': 0, 'phase_two__epochs': epochs, 'crops_limit': 4}
        tiny = {'model__hidden': (2,), 'crop': (16, 16), 'slices': 1, 'batch_size': 2}
        arguments = runs.training('convlstm', run, **changes, **tiny)
        process, samples = runs.start(arguments, place.scratch, log), []
        try:
            while process.poll() is None:
                with contextlib.suppress(OSError, IndexError):  # of a process that ends
                    samples.append(_sample(process.pid, run))
                time.sleep(_EVERY_S)
        finally:
            runs.kill(process)
        (place.scratch / 'epochs.json').write_text(json.dumps(samples))
        if process.returncode:
            return Outcome('wrong', f'status {process.returncode}: {runs.tail(log)}', epochs)
        told, wrong = judged([s for s in samples if s['epoch'] < epochs], epochs)
        if wrong:
            place.keep(place.scratch / 'epochs.json', 'epochs.json')
        return Outcome(told, wrong, epochs)

    yield piece


def judged(samples: list[dict[str, float]], epochs: int) -> tuple[str, str]:
    """From the second quarter of the epochs to the last: (what there was, what grew)."""
    early = [s for s in samples if epochs / 4 <= s['epoch'] < epochs / 2]
    late = [s for s in samples if s['epoch'] >= 3 * epochs / 4]
    if not early or not late:
        return 'too few epochs to tell', ''
    told, grown = [], []
    for name, limit in _GROWTH.items():
        one, two = (statistics.median(s[name] for s in part) for part in (early, late))
        told.append(f'{name.replace("_", " ")} {one:.0f} to {two:.0f}')
        if two - one > limit:
            grown.append(told[-1])
    return ', '.join(told), ', '.join(grown)


def _sample(pid: int, run: Path) -> dict[str, float]:
    process, metrics = Path(f'/proc/{pid}'), run / 'metrics.jsonl'
    pages = int((process / 'statm').read_text().split()[1])
    return {
        'epoch': metrics.read_bytes().count(b'\n') if metrics.exists() else 0,
        'memory_mb': pages * os.sysconf('SC_PAGE_SIZE') / 1e6,
        'open_files': len(list((process / 'fd').iterdir())),
        'threads': len(list((process / 'task').iterdir())),
        'files': sum(len(files) for _, _, files in os.walk(run)),
    }
