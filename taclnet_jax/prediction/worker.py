"""A worker of a job: takes blocks from the process that began it until there are none.

    python -m taclnet_jax.prediction.worker SCRATCH PASS

The variable DAISY_CONTEXT says where that process listens; `--worker_command` starts workers so.
"""

import os
import subprocess
import sys
from pathlib import Path

from taclnet_jax.commandline import allow_callbacks, keep_compiled
from taclnet_jax.cores import available_cores


def work(scratch: str, name: str, workers: int = 1) -> None:
    """Does blocks of a pass.

    Args:
        scratch: folder of the job.
        name: of the pass.
        workers: that share this machine's cores.
    """
    import daisy.v2 as daisy

    client = daisy.Client()
    share_cores(workers)
    allow_callbacks()
    keep_compiled()

    from taclnet_jax.prediction.attempt import attempt
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


def share_cores(workers: int) -> None:
    """Has JAX, before it is imported, take a worker's part of the cores.

    Whichever they are: a worker that is bound to a core waits for all else that runs there.
    """
    if workers > 1:  # gudhi's callbacks need two threads (`allow_callbacks`)
        os.environ.setdefault('NPROC', str(max(len(available_cores()) // workers, 2)))


if __name__ == '__main__':
    work(sys.argv[1], sys.argv[2])
