"""Calls side by side: a process each, with its share of the cores and of an accelerator's memory.

A process reads on its standard input what to call, and this stays open: when it ends, whoever
started the process is gone, and the process stops as by SIGTERM, after saving.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from taclnet_jax import commandline
from taclnet_jax.cores import available_cores

Call = Callable[[], object]
"""Something that pickle can send to another process."""

_ROOT = Path(__file__).parents[1]
_SECONDS_BETWEEN_LOOKS = 0.5
# The names that JAX knows, and what it takes of an accelerator's memory without them.
_MEMORY = ('XLA_CLIENT_MEM_FRACTION', 'XLA_PYTHON_CLIENT_MEM_FRACTION')
_MEMORY_DEFAULT = 0.75


class Jobs:
    """Processes that run side by side. When it is left, those that still run stop and save.

    Args:
        number: how many at a time.
    """

    def __init__(self, number: int) -> None:
        self._shares = shares(available_cores(), number)
        self._running: dict[str, tuple[_Process, tuple[int, ...]]] = {}
        self._number = number

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            for process, _ in self._running.values():
                process.terminate()
            while self._running:
                self.wait()
        finally:  # A second signal to this process ends them at once.
            for process, _ in self._running.values():
                process.kill()

    @property
    def running(self) -> list[str]:
        """Their names."""
        return list(self._running)

    @property
    def free(self) -> bool:
        """Whether one more may be started."""
        return len(self._running) < self._number

    def start(self, name: str, call: Call) -> None:
        """Calls in a process of its own, whose lines go to standard error behind the name."""
        cores = self._shares.pop(0)
        variables = environment(len(cores), self._number)
        with _confined_to(cores):  # A process is born with the cores of who starts it.
            self._running[name] = _Process(name, call, variables), cores

    def wait(self) -> dict[str, str]:
        """Waits a moment; what has ended since, by name: '' if it went well, else what it said."""
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        ended = {}
        for name, (process, cores) in list(self._running.items()):
            outcome = process.outcome()
            if outcome is not None:
                ended[name] = outcome
                self._shares.append(cores)
                del self._running[name]
        return ended


def shares(cores: list[int], number: int) -> list[tuple[int, ...]]:
    """The cores divided into so many parts; where there are fewer, some stand in several."""
    if len(cores) < number:
        return [(cores[i % len(cores)],) for i in range(number)]
    ends = [len(cores) * i // number for i in range(number + 1)]
    return [tuple(cores[start:end]) for start, end in pairwise(ends)]


@contextlib.contextmanager
def _confined_to(cores: tuple[int, ...]) -> Iterator[None]:
    if not hasattr(os, 'sched_setaffinity'):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def environment(cores: int, number: int) -> dict[str, str]:
    """The variables of one of so many processes, which has so many cores."""
    memory = next((name for name in _MEMORY if os.environ.get(name)), _MEMORY[-1])
    fraction = float(os.environ.get(memory) or _MEMORY_DEFAULT) / number
    return {
        **os.environ,
        memory: f'{fraction:.3f}',
        # JAX's callbacks can hang without a thread more than there are devices.
        'NPROC': str(max(cores + 1, int(os.environ.get('NPROC') or 0))),
        'PYTHONUNBUFFERED': '1',
        'PYTHONPATH': os.pathsep.join(filter(None, (str(_ROOT), os.environ.get('PYTHONPATH')))),
    }


class _Process:
    """One of them."""

    def __init__(self, name: str, call: Call, variables: dict[str, str]) -> None:
        self._name, self._last = name, ''
        self._process = subprocess.Popen(
            [sys.executable, '-m', __name__],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # A terminal's Ctrl-C reaches it through this process alone.
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # It is dead already: `outcome` says so.
            self._process.stdin.write(pickle.dumps(call))
            self._process.stdin.flush()
        self._lines = threading.Thread(target=self._relay, daemon=True)
        self._lines.start()

    def outcome(self) -> str | None:
        """None while it runs, '' if it ended well, else why it did not."""
        status = self._process.poll()
        if status is None:
            return None
        self._lines.join()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        if status < 0:
            return f'Ended by {signal.Signals(-status).name}.'
        return (self._last or f'Ended with status {status}.') if status else ''

    def terminate(self) -> None:
        """Lets it save and stop."""
        self._process.terminate()

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()

    def _relay(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                text = line.decode(errors='replace').rstrip()
                self._last = text.removeprefix('taclnet: error: ') or self._last
                # In one call: print writes a line's end by itself, after which others have written.
                sys.stderr.write(f'{self._name}: {text}\n')
                sys.stderr.flush()


def _work() -> None:
    """What a process does."""
    try:
        call = pickle.load(sys.stdin.buffer)
        threading.Thread(target=_stop_when_alone, daemon=True).start()
        commandline.with_messages(call)
    except Exception as error:
        traceback.print_exc()
        sys.exit(str(error) or type(error).__name__)  # The last line says what it was.


def _stop_when_alone() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    # Nobody reads what is printed from now on, and printing it would fail.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == '__main__':
    commandline.run(_work, __doc__, [])
