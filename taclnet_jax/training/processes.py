"""Training in several processes, on one machine or more: how they find each other, and end."""

import os
import sys
import traceback
from collections.abc import Callable

import jax

from taclnet_jax.commandline import with_messages
from taclnet_jax.errors import InputError

SILENCE_S = 60
"""After which a process that says nothing is taken for dead, and ends the others."""
_SHUTDOWN_S = 15
"""That a process waits for the others in the end, as long as they take to close their files."""
# What JAX and the libraries below say where it is not this process that failed.
_LOST = ('Gloo', 'NCCL', 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'ABORTED', 'CANCELLED', 'heartbeat')


def run_together(
    main: Callable[[], object],
    coordinator: str | None = None,
    processes: int | None = None,
    index: int | None = None,
) -> None:
    """Calls `main` in a process that is one of several, before JAX was used.

    It ends the process with the exit status of `commandline.with_messages` where that does, and
    where another process was lost with a message and status 1.

    Args:
        main: what all processes do.
        coordinator, processes, index: host:port of the first process, their number and which of
            them this is, from 0. What is None is taken from SLURM, Open MPI or a TPU's machines.

    Raises:
        InputError: it is not found there.
    """
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            index,
            heartbeat_timeout_seconds=SILENCE_S,
            shutdown_timeout_seconds=_SHUTDOWN_S,
        )
    except ValueError as error:
        raise InputError(
            f'Expected --coordinator, --num_processes and --process_index, or to be started by '
            f'SLURM, Open MPI or on a TPU, which tell them; found {error}'
        ) from error
    status = 0
    try:
        with_messages(main)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except Exception as error:
        if any(sign in str(error) for sign in _LOST):
            reason = str(error).strip().splitlines()[0][:200]
            print(
                f'taclnet: error: Another process of this training ended, or cannot be reached '
                f'({reason}). Start the same command again in all of them: it goes on from the '
                'last checkpoint.',
                file=sys.stderr,
            )
            _leave(1)
        traceback.print_exc()
        status = 1
    # Whoever leaves without a word is taken for dead by the others, who may still be writing.
    try:
        jax.distributed.shutdown()
    finally:
        if status:
            _leave(status)


def _leave(status: int) -> None:
    """Ends this process without waiting for the others, as Python's own end would."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
