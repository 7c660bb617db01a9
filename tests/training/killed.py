"""The command line, which kills its own process: python killed.py WHERE ARGUMENTS...

It does so when a path that begins with WHERE, below the run's folder, is about to be renamed.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from taclnet_jax.main import run

if __name__ == '__main__':
    where, *arguments = sys.argv[1:]
    (workdir,) = (a.partition('=')[2] for a in arguments if a.startswith('--workdir='))
    start = os.path.join(workdir, where)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == 'os.rename' and os.fsdecode(args[0]).startswith(start):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    sys.argv[1:] = arguments
    run()
