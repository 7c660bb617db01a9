"""What daisy prints and swallows."""

import contextlib
import faulthandler
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def kept_from_terminal(path: Path) -> Iterator[None]:
    """Sends to a file what compiled code prints as errors; `sys.stderr` goes where it went."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = sys.stderr
    with path.open('a') as file, os.fdopen(os.dup(2), 'w') as terminal:
        os.dup2(file.fileno(), 2)
        if shown is sys.__stderr__:
            sys.stderr = terminal
        try:
            yield
        finally:
            sys.stderr = shown
            os.dup2(terminal.fileno(), 2)


@contextlib.contextmanager
def told_of_signals() -> Iterator[Callable[[], None]]:
    """Raises KeyboardInterrupt, with the signal's number, for all of SIGINT and SIGTERM.

    daisy has a handler of its own for SIGINT, which it asks only while blocks are left, and
    swallows what handlers of other signals raise.

    Yields:
        What is to be called once daisy runs. From then on signals are noted before daisy's handler
        gets them.
    """
    if threading.current_thread() is not threading.main_thread():  # where no handler can be set
        yield lambda: None
        return
    numbers: list[int] = []

    def forward(number: int, frame: Any) -> None:
        numbers.append(number)
        signal.raise_signal(signal.SIGINT)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with tempfile.TemporaryFile() as notes:
        signal.signal(signal.SIGTERM, forward)
        try:
            # A handler in C that calls the one before it, and leaves a trace in a file.
            yield lambda: faulthandler.register(signal.SIGINT, notes, all_threads=False, chain=True)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(*numbers[:1]) from None
        else:
            if os.fstat(notes.fileno()).st_size:  # daisy was done, and looked no more
                raise KeyboardInterrupt(*numbers[:1])
        finally:
            faulthandler.unregister(signal.SIGINT)
            for number, handler in before.items():
                signal.signal(number, handler)
