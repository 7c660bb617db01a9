"""One training a folder: a lock that ends with the process that holds it."""

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from taclnet_jax.errors import InputError
from taclnet_jax.files import write_text

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def training_lock(folder: Path) -> Iterator[None]:
    """Within it no other process trains in the folder of a run.

    The system lets go of the lock when the process ends, however it ends. Readers need none. On a
    file system without locks there is only a warning.

    Raises:
        InputError: another training holds it; names its host and process.
    """
    # The holder has a file of its own: opening the lock's may empty it.
    lock, holder = FileLock(folder / '.training.lock'), folder / '.training.holder'
    try:
        lock.acquire(blocking=False)
    except Timeout:
        who = holder.read_text().strip() if holder.exists() else 'another process'
        raise InputError(
            f'Expected {folder} to be trained by one process at a time; {who} is training there. '
            'Wait until it ends, stop it, or choose another --workdir.'
        ) from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        print(
            f'The file system of {folder} has no locks: let nothing else train there.',
            file=sys.stderr,
        )
    try:
        write_text(holder, f'process {os.getpid()} on {socket.gethostname()}\n')
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
