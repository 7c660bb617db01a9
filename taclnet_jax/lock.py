"""Work in a folder that one process does at a time."""

import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from taclnet_jax.errors import InputError
from taclnet_jax.files import explained


@contextlib.contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Within it no other process has the same lock.

    The lock is the operating system's. It ends with its process, however that ends, and holds
    between machines where their file system does that; on one without locks there is a warning.
    (filelock's own does not say who holds it.)

    Args:
        path: of the lock's file, which is there while somebody has it, and says who.
        busy: what to tell whoever comes second, with `{holder}` for the first.

    Raises:
        InputError: another process has it, or it cannot be written.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _taken(path, busy)
    with file:
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _taken(path: Path, busy: str) -> TextIO:
    """The file of a lock that this process has until it is closed."""
    while True:
        file = path.open('a+')
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            with file:
                file.seek(0)
                holder = file.read().strip() or 'another process'
            raise InputError(busy.replace('{holder}', holder)) from error
        except OSError as error:
            print(
                f'The file system of {path.parent} has no locks ({error.strerror}): let nothing '
                'else work there.',
                file=sys.stderr,
            )
            return file
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return file
        file.close()  # the one who had it has just removed it
