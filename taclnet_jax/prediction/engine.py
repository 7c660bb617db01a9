"""Runs passes over all blocks, in this process or in many, with daisy.

daisy hands out blocks, tries those again that failed, and keeps on disk which are done, so that a
job that was stopped goes on, and a worker that dies loses nothing.
"""

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import daisy.v2 as daisy
import numpy as np
import tensorstore as ts
from daisy.logging import set_log_basedir, set_log_level
from numpy.typing import NDArray

from taclnet_jax.errors import InputError, disk_is_full
from taclnet_jax.prediction.attempt import attempt, error_file
from taclnet_jax.prediction.job import Index
from taclnet_jax.prediction.passes import Passes
from taclnet_jax.prediction.quiet import kept_from_terminal, told_of_signals
from taclnet_jax.prediction.store import lost
from taclnet_jax.prediction.worker import start_worker
from taclnet_jax.progress import Progress

# Of a block, before it counts as failed.
_TRIES = 3
# Longer than any block takes; daisy would take one back that seems stuck.
_SECONDS_A_BLOCK = 7 * 24 * 3600
_SHOWN = 5


def run_pass(
    passes: Passes, name: str, needed: NDArray[np.bool_], workers: int, command: list[str]
) -> None:
    """Does what a pass does to all blocks that are not done yet.

    Args:
        passes: of the job.
        name: of the pass.
        needed: `[blocks along z, y, x]`; the others are left out.
        workers: processes; with 1 it is this one.
        command: what starts each worker, such as `srun`; none for processes of this machine.

    Raises:
        InputError: blocks failed; all others are done.
    """
    scratch = passes.scratch
    alone = workers == 1 and not command
    logs = scratch / 'logs'
    set_log_basedir(logs)
    set_log_level('CRITICAL')
    with contextlib.ExitStack() as around:
        begun = None
        if not alone:
            around.enter_context(kept_from_terminal(logs / 'daisy.txt'))
            begun = around.enter_context(told_of_signals())
        done = _done(scratch / 'done' / name / 'done', needed)
        _check_kept(passes, name, done)
        bar = _Bar(name, needed, int(done.sum()), begun)
        around.callback(bar.close)
        function: Callable[..., None]
        if alone:
            function = partial(_process, partial(attempt, passes, name), bar.on_progress)
        else:
            function = partial(start_worker, str(scratch), name, workers, command)
        one, marks = daisy.Roi((0, 0, 0), (1, 1, 1)), scratch / 'done' / name
        task_without = partial(
            daisy.Task,
            name,
            total_roi=daisy.Roi((0, 0, 0), needed.shape),
            read_roi=one,
            write_roi=one,
            process_function=function,
            read_write_conflict=False,
            max_workers=workers,
            max_retries=_TRIES - 1,
            timeout=_SECONDS_A_BLOCK,
            tracking_path=str(marks),
        )
        if not any((marks / 'failures').rglob('c/*/*/*')):  # which daisy makes last
            nothing = task_without(skip_mask=np.ones_like(needed))
            daisy.run_blockwise(nothing, multiprocessing=False, progress=None, summary=False)
        _reserve(marks)
        task = task_without(skip_mask=~needed)
        try:
            states = daisy.run_blockwise(
                task,
                multiprocessing=not alone,
                progress=None if alone else bar,
                return_states=True,
                summary=False,
                # Processes of this machine need no other address; daisy finds one for a cluster.
                host=None if command else '127.0.0.1',
            )
        except RuntimeError as error:
            raise InputError(
                f'Workers ended again and again, the last one with {_last_words(error)}. What they '
                f'printed is in {logs / name}. Mend the cause and start the same command again; '
                'what is done is kept.'
            ) from error
    state = states[name]
    if state.completed_count < state.total_block_count:
        raise _failed(scratch, name, task.failed_blocks(), state.last_worker_error or '')


def _reserve(marks: Path) -> None:
    """Gives daisy's marks their room on the disk.

    It maps them into memory as holes; a disk that is full when the first is filled would end the
    process with SIGBUS.

    Raises:
        OSError: there is no room.
    """
    if not hasattr(os, 'posix_fallocate'):  # macOS
        return
    for path in marks.rglob('c/*/*/*'):
        with path.open('r+b') as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:  # some file systems cannot
                if disk_is_full(error):
                    raise


def _process(
    attempt: Callable[[Index], bool], done: Callable[[], None], block: daisy.Block
) -> None:
    """A block in this process."""
    if attempt(_index(block)):
        done()
    else:
        block.status = daisy.BlockStatus.FAILED


def _index(block: daisy.Block) -> Index:
    z, y, x = block.write_roi.offset
    return z, y, x


class _Bar:
    """Shows how many blocks of a pass are done; daisy calls its methods.

    Args:
        name: of the pass.
        needed: its blocks.
        done: how many of them were done before.
        begun: called once daisy runs.
    """

    def __init__(
        self, name: str, needed: NDArray[np.bool_], done: int, begun: Callable[[], None] | None
    ) -> None:
        self._name = name
        self._left_out = int((~needed).sum())
        self._bar = Progress(done, int(needed.sum()), 'block')
        self._shown = done
        self._begun = begun

    def on_start(self, states: dict[str, daisy.TaskState]) -> None:
        if self._begun is not None:
            self._begun()
        self.on_progress(states)

    def on_progress(self, states: dict[str, daisy.TaskState] | None = None) -> None:
        done = self._shown + 1
        if states is not None:
            done = states[self._name].completed_count - self._left_out
        while self._shown < done:
            self._shown += 1
            self._bar.step(self._name)

    def on_finish(self, states: dict[str, daisy.TaskState]) -> None:
        self.on_progress(states)

    def close(self) -> None:
        self._bar.close()


def _done(marks: Path, needed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the needed blocks daisy has marked as done, in a zarr array of its own."""
    if not marks.exists():
        return np.zeros_like(needed)
    spec = {'driver': 'zarr3', 'kvstore': {'driver': 'file', 'path': f'{marks.absolute()}/'}}
    try:
        return needed & (ts.open(spec).result().read().result() == 1)
    except ValueError as error:
        raise lost(marks) from error


def _check_kept(passes: Passes, name: str, done: NDArray[np.bool_]) -> None:
    """That what a pass did is still there; zarr reads a lost chunk as zeros.

    Raises:
        InputError: a file is not.
    """
    for z, y, x in np.argwhere(done).tolist():
        for path in passes.files(name, (z, y, x)):
            if not path.exists():
                raise lost(path)


def _last_words(error: Exception) -> str:
    """Of a worker, whose traceback is in what daisy raises, before advice of daisy's own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = [line for line in lines if not line.startswith('Fix the worker error')]
    return words[-1][:300] if words else type(error).__name__


def _failed(scratch: Path, name: str, blocks: list[daisy.Block], reason: str) -> InputError:
    """Names blocks that failed, and why."""
    told = []
    for block in blocks[:_SHOWN]:
        index = _index(block)
        path = error_file(scratch, name, index)
        why = path.read_text().splitlines()[0] if path.exists() else reason.strip()[-200:]
        told.append(
            f'block {index} ({why or "nothing could be written about it: is the disk full?"})'
        )
    more = f' and {len(blocks) - _SHOWN} more' if len(blocks) > _SHOWN else ''
    return InputError(
        f'Could not {name} {"; ".join(told) or reason.strip()[-500:]}{more}, after {_TRIES} tries; '
        f'all other blocks are done. Mend the cause and start the same command again. Details are '
        f'in {scratch / "errors"}.'
    )
