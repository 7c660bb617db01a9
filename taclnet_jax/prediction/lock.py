"""One command at a time for a scratch folder."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from taclnet_jax.errors import InputError


@contextlib.contextmanager
def locked(scratch: Path) -> Iterator[None]:
    """Keeps other commands out of a folder, which need not be there yet.

    The lock is the operating system's, on a file beside the folder that says who holds it. It ends
    with its process, however that ends, and holds between machines where their file system does
    that.

    Raises:
        InputError: another process has it.
    """
    path = scratch.with_name(f'{scratch.name}.lock')
    path.parent.mkdir(parents=True, exist_ok=True)
    with _taken(path) as file:
        file.truncate(0)
        file.write(f'process {os.getpid()} of {socket.gethostname()}\n')
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _taken(path: Path) -> TextIO:
    """The file of a lock that this process has until it is closed."""
    while True:
        file = path.open('a+')
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            with file:
                file.seek(0)
                holder = file.read().strip() or 'another process'
            raise InputError(
                f'Expected {path.with_suffix("")} for this command alone; {holder} is working in '
                'it. Wait until that ends, or stop it; or choose another --output and --scratch.'
            ) from error
        except OSError:
            return file  # a file system without locks
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return file
        file.close()  # the one who had it has just removed it
