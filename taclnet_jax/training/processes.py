"""Training in several processes, on one machine or more: how they find each other, and end."""

import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import jax
from jax._src.distributed import global_state  # JAX has no public way to its key-value store.

from taclnet_jax.commandline import complain, with_messages
from taclnet_jax.errors import InputError, Interrupted

PATIENCE_S = 300
"""That the processes wait for each other at the start."""
SILENCE_S = 60
"""After which a process that says nothing is taken for dead, and ends the others."""
_SHUTDOWN_S = 15
"""That a process waits for the others in the end, as long as they take to close their files."""
_TOLD_S = 10
"""Of waiting at the start after which that is told."""
# What JAX and the libraries below say where it is not this process that failed.
_LOST = (
    *('Gloo', 'NCCL', 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'ABORTED', 'CANCELLED', 'heartbeat'),
    *('FAILED_PRECONDITION', 'barrier'),
)
# In the key-value store that the first process keeps for all.
_FAILED = 'taclnet/failed'
_LEFT = 'taclnet/left'


def run_together(
    main: Callable[[], object],
    coordinator: str | None = None,
    processes: int | None = None,
    index: int | None = None,
) -> None:
    """Calls `main` in a process that is one of several, before JAX was used.

    It ends the process with the exit status of `commandline.with_messages` where that does. Where
    one process fails, the others end too, with what it said and its status; where one was lost,
    with a message and status 1.

    Args:
        main: what all processes do.
        coordinator, processes, index: host:port of the first process, their number and which of
            them this is, from 0. What is None is taken from SLURM, Open MPI or a TPU's machines.

    Raises:
        InputError: it is not found there, or cannot be used.
    """
    if coordinator is not None:
        check_coordinator(coordinator, index == 0)
    _join(coordinator, processes, index)
    ending = _Ending()
    follower = threading.Thread(target=ending.follow_others, daemon=True)
    follower.start()
    status = 0
    cause: BaseException | None = None
    try:
        with_messages(main)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
        cause = end.__context__ or end  # what there is a message of
    except Exception as error:
        ending.tell_of_others(error)
        traceback.print_exc()
        status, cause = 1, error
    if status:
        # One that is told to stop tells the others, and all stop after the same step.
        together = isinstance(cause, Interrupted)
        ending.leave(status, '' if together else _reason(cause))
    ending.all_is_well.set()
    follower.join()
    # Whoever leaves without a word is taken for dead by the others, who may still be writing.
    jax.distributed.shutdown()


def check_coordinator(address: str, is_first: bool) -> None:
    """Refuses an address that is none, of no machine, or whose port the first process cannot open.

    JAX would wait for minutes, or crash.
    """
    host, _, port = address.rpartition(':')
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(
            f'Expected --coordinator to be host:port, such as localhost:12345; found {address}.'
        )
    try:
        socket.getaddrinfo(host.strip('[]'), int(port))
    except OSError as error:
        raise InputError(
            f'Expected --coordinator to name the machine of the first process; {host} is not known '
            f'here ({error.strerror}).'
        ) from error
    if not is_first:
        return
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        socket.create_server(('', int(port)), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        raise InputError(
            f'Expected --coordinator with a port that is free here; {port} cannot be opened '
            f'({os.strerror(error.errno or 0)}). Give all processes another one.'
        ) from error


def _join(coordinator: str | None, processes: int | None, index: int | None) -> None:
    try:
        with _patience(coordinator or 'the address that the first one has'):
            jax.distributed.initialize(
                coordinator,
                processes,
                index,
                initialization_timeout=2 * PATIENCE_S,
                heartbeat_timeout_seconds=SILENCE_S,
                shutdown_timeout_seconds=_SHUTDOWN_S,
            )
    except (LookupError, RuntimeError, ValueError) as error:
        raise InputError(
            f'Expected --coordinator, --num_processes and --process_index, or to be started by '
            f'SLURM, Open MPI or on a TPU, which tell them; found {error}'
        ) from error


@contextmanager
def _patience(place: str) -> Iterator[None]:
    """Around what waits for other processes: says so after a while, and ends it in the end.

    JAX waits where Python handles no signals; there is nothing half done yet that they could leave.
    """

    def give_up() -> None:
        complain(
            f'Expected all processes at {place} within {PATIENCE_S} s; not all came. Start as many '
            'as --num_processes says, all with the same --coordinator, each with a --process_index '
            'of its own.'
        )
        os._exit(2)

    told = f'Waiting for the other processes at {place}, at most {PATIENCE_S} s.'
    to_errors = {'file': sys.stderr, 'flush': True}
    timers = (
        threading.Timer(_TOLD_S, print, [told], to_errors),
        threading.Timer(PATIENCE_S, give_up),
    )
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


class _Ending:
    """How this process ends where one of all fails: once, whichever thread learns of it first."""

    def __init__(self) -> None:
        self._index, self._processes = jax.process_index(), jax.process_count()
        self._store: Any = global_state.client
        self._ends = threading.Lock()
        self.all_is_well = threading.Event()

    def follow_others(self) -> None:
        """Ends this process with the words of another that fails, until all is well."""
        while not self.all_is_well.wait(1):
            self._end_as_told()

    def tell_of_others(self, error: Exception) -> None:
        """Ends this process if an error is of another's failure."""
        if not any(sign in str(error) for sign in _LOST):
            return
        for _ in range(30):  # It may have failed a moment ago.
            self._end_as_told()
            time.sleep(0.1)
        self._alone()
        complain(
            f'Another process of this training ended, or cannot be reached ({_reason(error)}). '
            'Start the same command again in all of them: it goes on from the last checkpoint.'
        )
        self._go(1)

    def leave(self, status: int, reason: str) -> NoReturn:
        """Ends this process; if there is a reason, the others too."""
        self._alone()
        if reason:
            failed = {'index': self._index, 'status': status, 'reason': reason}
            with suppress(Exception):  # Another one has failed before, or the first is gone.
                self._store.key_value_set(_FAILED, json.dumps(failed))
        self._go(status)

    def _end_as_told(self) -> None:
        try:
            failed = json.loads(self._store.key_value_try_get(_FAILED))
        except Exception:  # None has.
            return
        if failed['index'] != self._index:
            self._alone()
            complain(f'Process {failed["index"]} of this training ended: {failed["reason"]}')
            self._go(failed['status'])

    def _alone(self) -> None:
        if not self._ends.acquire(blocking=False):
            threading.Event().wait()  # for the other thread, which ends the process

    def _go(self, status: int) -> NoReturn:
        """Without Python's own end, which would wait for the others; the first one leaves last.

        With it goes what JAX of the others looks after, and ends them for.
        """
        with suppress(Exception):
            if self._index:
                self._store.key_value_set(f'{_LEFT}/{self._index}', '')
            else:
                end = time.monotonic() + _SHUTDOWN_S
                for i in range(1, self._processes):
                    rest = max(int(1000 * (end - time.monotonic())), 1)
                    self._store.blocking_key_value_get(f'{_LEFT}/{i}', rest)
                time.sleep(0.5)  # They leave as soon as they have said so.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _reason(error: Any) -> str:
    if isinstance(error, KeyboardInterrupt):
        return 'it was stopped by a signal.'
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:400]
