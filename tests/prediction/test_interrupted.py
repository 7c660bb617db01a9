"""Commands that are stopped at any moment, and workers that are: the same bytes in the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from commands import environment, run_on_small_disk
from made_up import RESOLUTION_NM, image, tiny, write_run

from taclnet_jax.volumes import write_array

pytestmark = pytest.mark.slow

SHAPE = (4, 128, 128)  # 16 windows
PASSES = {'predict': 'prob', 'attend': 'attended', 'finish': 'segments'}


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, a volume, and what an undisturbed command makes of it."""
    folder = tmp_path_factory.mktemp('interrupted')
    write_run(folder / 'run', tiny(slices=1))
    write_array(folder / 'a.zarr', image(SHAPE), resolution_nm=RESOLUTION_NM, format='zarr3')
    done = subprocess.run(command(folder, folder / 'undisturbed'), env=variables())
    assert done.returncode == 0
    return folder


def variables() -> dict[str, str]:
    """As many threads as users have, for one process as for a worker."""
    return {name: value for name, value in environment().items() if name != 'NPROC'}


def command(folder: Path, output: Path, *flags: str) -> list[str]:
    return [
        *(sys.executable, '-m', 'taclnet_jax.main', '--mode=predict'),
        *(f'--workdir={folder / "run"}', f'--input={folder / "a.zarr"}', f'--output={output}'),
        *('--dtype=float32', '--names=membrane,refined,segments', *flags),
    ]


class Started:
    """A command in a session of its own, all of whose processes can be found.

    Args:
        arguments: of the command.
        log: file that gets all that it prints.
    """

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.log = log
        with log.open('w') as file:
            self.process = subprocess.Popen(
                arguments,
                env=variables(),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def others(self) -> list[int]:
        """Its other processes."""
        found = []
        for stat in Path('/proc').glob('[0-9]*/stat'):
            try:
                fields = stat.read_text().rsplit(')', 1)[1].split()
            except OSError:
                continue
            number = int(stat.parent.name)
            if int(fields[3]) == self.process.pid != number and fields[0] != 'Z':
                found.append(number)
        return sorted(found)

    def wait(self, seconds: float = 240) -> int:
        try:
            return self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)

    def alone(self, seconds: float = 60) -> bool:
        """Whether its other processes end."""
        end = time.monotonic() + seconds
        while self.others():
            if time.monotonic() > end:
                os.killpg(self.process.pid, signal.SIGKILL)
                return False
            time.sleep(0.1)
        return True


def scratch(output: Path) -> Path:
    return output.parent / f'.{output.name}.unfinished'


def blocks_done(output: Path) -> dict[str, np.ndarray]:
    """daisy's marks by pass."""
    marks = {name: scratch(output) / 'done' / name / 'done' for name in PASSES}
    return {
        name: zarr.open(path, mode='r')[:] == 1 for name, path in marks.items() if path.exists()
    }


def count_done(output: Path) -> int:
    try:
        return sum(int(done.sum()) for done in blocks_done(output).values())
    except Exception:  # being written, or gone
        return 0


def wait_until(output: Path, blocks: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 240
    while process.poll() is None and not output.exists() and count_done(output) < blocks:
        assert time.monotonic() < end
        time.sleep(0.01)


def written(output: Path) -> dict[str, int]:
    """When the pieces of blocks that are marked as done were written, in ns."""
    times = {}
    for name, done in blocks_done(output).items():
        root = scratch(output) / PASSES[name] / 'c'
        root = root / '0' if name == 'predict' else root
        for _, i, j in np.argwhere(done).tolist():
            for path in root.glob(f'*/{i}/{j}'):
                times[str(path)] = path.stat().st_mtime_ns
    return times


def check_bytes(folder: Path, output: Path) -> None:
    for name in ('membrane', 'refined', 'segments'):
        expected = (folder / 'undisturbed' / f'{name}.tif').read_bytes()
        assert (output / f'{name}.tif').read_bytes() == expected, name
    assert not scratch(output).exists()


def check_stopped(started: Started, number: signal.Signals) -> None:
    """It ended because of a signal, with all of its processes, and says so."""
    assert started.wait() == 128 + number
    text = started.log.read_text()
    assert text.splitlines()[-1].startswith(f'Stopped by {number.name}. What is done is kept in')
    assert 'Traceback' not in text and 'WARN' not in text
    assert started.alone()


def test_killed_and_stopped_at_any_moment(folder: Path, tmp_path: Path) -> None:
    rng = random.Random(3)
    output = tmp_path / 'out'
    arguments = command(folder, output)
    before: dict[str, int] = {}
    # Five moments, in all three passes.
    for first in (1, 9, 17, 25, 33):
        number = signal.SIGTERM if first == 1 else signal.SIGKILL
        started = Started(arguments, tmp_path / 'log')
        wait_until(output, first + rng.randrange(6), started.process)
        time.sleep(0.05 * rng.random())
        started.process.send_signal(number)
        if number == signal.SIGTERM:
            check_stopped(started, number)
        else:
            assert started.wait() in (-number, 0)  # a busy machine may send it too late
        times = written(output)
        # Nothing that was done is written again.
        assert before.items() <= times.items() and len(times) > 0
        before = times
    assert Started(arguments, tmp_path / 'log').wait() == 0, (tmp_path / 'log').read_text()
    check_bytes(folder, output)


def test_workers_give_what_one_process_gives(folder: Path, tmp_path: Path) -> None:
    """None outlives its command; one is killed, all are stopped; another command does the rest."""
    output = tmp_path / 'out'
    arguments = command(folder, output, '--workers=2')
    started = Started(arguments, tmp_path / 'log')
    wait_until(output, 1, started.process)
    started.process.kill()
    started.wait()
    assert started.alone()
    done = count_done(output)
    started = Started(arguments, tmp_path / 'log')
    wait_until(output, done + 1, started.process)
    workers = started.others()
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    # While daisy waits for workers that have nothing left to do in this pass.
    wait_until(output, max(16, done + 2), started.process)
    started.process.send_signal(signal.SIGINT)
    check_stopped(started, signal.SIGINT)
    assert '| 16/16' in started.log.read_text() and 16 <= count_done(output) < 48
    started = Started(command(folder, output, '--worker_command=env'), tmp_path / 'log')
    assert started.wait() == 0, (tmp_path / 'log').read_text()
    assert started.alone()
    check_bytes(folder, output)


@pytest.mark.parametrize('program', ['false', 'no_such_program'])
def test_workers_that_cannot_start(
    folder: Path, tmp_path: Path, program: str, refused: Callable[..., str]
) -> None:
    output = tmp_path / 'out'
    message = refused(*command(folder, output, f'--worker_command={program}')[3:])
    assert 'Workers ended again and again' in message and program in message
    logs = scratch(output) / 'logs' / 'measure'
    assert str(logs) in message and program in (logs / 'worker_0.err').read_text()
    assert not output.exists()


@pytest.mark.parametrize('size', ['60k', '200k'])
def test_a_full_disk(folder: Path, tmp_path: Path, size: str) -> None:
    done = run_on_small_disk(tmp_path, command(folder, tmp_path / 'out'), variables(), size)
    assert done.returncode == 2, done.stderr
    messages = [line for line in done.stderr.splitlines() if line.startswith('taclnet: error: ')]
    assert len(messages) == 1, done.stderr
    assert 'The disk is full' in messages[0] or 'is the disk full?' in messages[0]
    assert 'Out of memory' not in done.stderr and 'Traceback' not in done.stderr
