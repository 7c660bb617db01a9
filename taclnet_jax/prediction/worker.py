"""A worker of a job: takes blocks from the process that began it until there are none.

    python -m taclnet_jax.prediction.worker SCRATCH PASS

The variable DAISY_CONTEXT says where that process listens; `--worker_command` starts workers so.
"""

import os
import subprocess
import sys
from pathlib import Path

from taclnet_jax.commandline import allow_callbacks, keep_compiled


def work(scratch: str, name: str, workers: int = 1) -> None:
    """Does blocks of a pass.

    Args:
        scratch: folder of the job.
        name: of the pass.
        workers: that share this machine's cores.
    """
    import daisy.v2 as daisy

    client = daisy.Client()
    share_cores(client.worker_id, workers)
    allow_callbacks()
    keep_compiled()

    from taclnet_jax.prediction.engine import attempt
    from taclnet_jax.prediction.passes import Passes

    passes = Passes(Path(scratch))
    while True:
        with client.acquire_block() as block:
            if block is None:
                return
            z, y, x = block.write_roi.offset
            if not attempt(passes, name, (z, y, x)):
                block.status = daisy.BlockStatus.FAILED


def start_worker(scratch: str, name: str, workers: int, command: list[str]) -> None:
    """Called in a process of its own: works, or has the command start a process that does."""
    if command:
        program = [sys.executable, '-m', 'taclnet_jax.prediction.worker', scratch, name]
        subprocess.run([*command, *program], check=True)
    else:
        work(scratch, name, workers)


def share_cores(number: int, workers: int) -> None:
    """Leaves a worker its part of the cores, where the system lets it choose."""
    if workers > 1 and hasattr(os, 'sched_setaffinity'):
        cores = sorted(os.sched_getaffinity(0))
        mine = cores[number % workers :: workers]
        os.sched_setaffinity(0, mine or [cores[number % len(cores)]])


if __name__ == '__main__':
    work(sys.argv[1], sys.argv[2])
