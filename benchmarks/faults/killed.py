"""Commands that are killed, or told to end, at any moment, and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from benchmarks.faults import runs
from benchmarks.faults.stage import Outcome, Piece, Place
from taclnet_jax.errors import InputError
from taclnet_jax.inference import load

MODES = ('train', 'evaluate', 'train', 'predict')
KILLS = 2
"""Of one command, one after the other; then it is started for the last time."""

_SAVED_S = 10.0


class Work:
    """A command that is disturbed, in a folder of its own.

    Args:
        network: of `runs.NETWORKS`.
        mode: of `MODES`.
        scratch: folder of the stages.
    """

    def __init__(self, network: str, mode: str, scratch: Path) -> None:
        self.undisturbed = runs.undisturbed(network, scratch)
        self.folder, self._mode, self._scratch = scratch / 'disturbed', mode, scratch
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.log, self._run, output = (self.folder / n for n in ('log', 'run', 'output'))
        if mode == 'evaluate':
            shutil.copytree(self.undisturbed.run, self._run)
            (self._run / 'results.json').unlink()
        trained = self.undisturbed.run
        self._arguments = {
            'train': runs.training(network, self._run),
            'evaluate': runs.evaluating(self._run),
            'predict': runs.predicting(trained, self.undisturbed.stack, output),
        }[mode]

    def start(self) -> runs.Process:
        """Starts the command, or lets it go on."""
        return runs.start(self._arguments, self._scratch, self.log)

    def any_moment(self, process: runs.Process, rng: Random) -> None:
        """Waits for one after JAX was imported; one that goes on may have ended then."""
        seconds = self.undisturbed.seconds
        begin, end = seconds['start'], seconds[self._mode]
        runs.until_used(begin + 0.9 * rng.random() * (end - begin), process)

    def until_training(self, process: runs.Process) -> None:
        """Waits until it trains."""
        runs.until(self._run / '.training.lock', process)

    def ended(self) -> bool:
        """Whether all of a prediction was done, though its process may have lived on.

        Started again, it is refused, as a prediction is there.
        """
        left = ('.output.unfinished', '.output.unfinished.done')
        exists = [(self.folder / name).exists() for name in ('output', *left)]
        return exists == [True, False, False]

    def finish(self) -> str:
        """Starts it for the last time; what is wrong with the end, '' where nothing is."""
        try:
            if not self.ended():
                runs.finish(self.start(), self.log)
        except RuntimeError as error:
            return str(error)
        return self.different()

    def different(self) -> str:
        """What the end does not share with that of the command that was left alone."""
        if self._mode == 'predict':
            found = runs.bytes_of(self.folder / 'output')
            return runs.differences(self.undisturbed.bytes, found)
        return runs.differences(self.undisturbed.end, runs.end_of(self._run))


@contextlib.contextmanager
def killed(place: Place) -> Iterator[Piece]:
    """Kills a command twice a piece, by SIGKILL."""

    def piece(number: int, rng: Random) -> Outcome:
        network, mode = runs.NETWORKS[number % 2], MODES[number // 2 % len(MODES)]
        work, kills = Work(network, mode, place.scratch), 0
        for _ in range(KILLS):
            if work.ended():
                break
            process = work.start()
            work.any_moment(process, rng)
            kills += process.poll() is None
            runs.kill(process)
        wrong = work.finish()
        return _outcome(f'{network} {mode}: the same end', wrong, kills, work, place, number)

    yield piece


@contextlib.contextmanager
def terminated(place: Place) -> Iterator[Piece]:
    """Ends a training by SIGTERM, one a piece."""

    def piece(number: int, rng: Random) -> Outcome:
        network = runs.NETWORKS[number % 2]
        work = Work(network, 'train', place.scratch)
        process = work.start()
        work.until_training(process)
        work.any_moment(process, rng)
        if process.poll() is not None:
            return _outcome('ended before', work.different(), 0, work, place, number)
        begin = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        # Until its last line the program has its own way with the signal: -SIGTERM came after it.
        if (status := runs.ended(process)) in (0, -signal.SIGTERM):
            return _outcome('ended before', work.different(), 0, work, place, number)
        seconds, said = time.monotonic() - begin, runs.tail(work.log)
        wrong = ''
        if status != 128 + signal.SIGTERM or 'Stopped' not in said:
            wrong = f'status {status}: {said}'
        elif seconds > _SAVED_S:
            wrong = f'it took {seconds:.1f} s'
        wrong = wrong or work.finish()
        return _outcome(f'{network}: status 143, the same end', wrong, 1, work, place, number)

    yield piece


def _outcome(label: str, wrong: str, times: int, work: Work, place: Place, number: int) -> Outcome:
    if not wrong:
        return Outcome(label, '', times)
    kept = place.keep(work.folder, f'disturbed_{number}_{label.split(":")[0].replace(" ", "_")}')
    return Outcome('wrong', f'{kept.name}: {wrong}', times)


@contextlib.contextmanager
def read_meanwhile(place: Place) -> Iterator[Piece]:
    """Opens a run again and again while it trains, from begin to end."""

    def piece(number: int, rng: Random) -> Outcome:
        network = runs.NETWORKS[number % 2]
        work = Work(network, 'train', place.scratch)
        process, steps, wrong = work.start(), [0], ''
        work.until_training(process)
        while process.poll() is None:
            try:
                steps.append(load(work.folder / 'run').step)
            except InputError as error:
                if 'found no checkpoint' not in str(error) and 'does not exist' not in str(error):
                    wrong = wrong or f'a reader: {error}'
            except Exception as error:
                wrong = wrong or f'a reader: {type(error).__name__}: {error}'
        runs.kill(process)
        if process.returncode:
            wrong = wrong or f'status {process.returncode}: {runs.tail(work.log)}'
        elif steps != sorted(steps):
            wrong = wrong or 'a reader: an older network came after a newer one'
        wrong = wrong or work.different()
        return _outcome(f'{network}: the same end', wrong, len(steps) - 1, work, place, number)

    yield piece
