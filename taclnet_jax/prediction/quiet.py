"""What daisy prints and swallows."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
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
def told_of_sigterm() -> Iterator[None]:
    """Lets SIGTERM end what SIGINT alone would; the KeyboardInterrupt has the signal's number.

    daisy looks for SIGINT, and swallows what handlers of other signals raise.
    """
    if threading.current_thread() is not threading.main_thread():  # where no handler can be set
        yield
        return
    numbers: list[int] = []

    def forward(number: int, frame: Any) -> None:
        numbers.append(number)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, forward)
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(*numbers[:1]) from None
    else:
        if numbers:  # daisy was done, and looked no more
            raise KeyboardInterrupt(*numbers)
    finally:
        signal.signal(signal.SIGTERM, before)
