"""The command line of a second process, with a signal: python signalled.py WHEN ARGUMENTS...

WHEN is `killed`, at the end of step 5, or `stopped`, by SIGTERM before the first step.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

from taclnet_jax import commandline


def prepare(when: str) -> None:
    from taclnet_jax.training.reporting import Silence

    steps = iter(range(1, 6))

    def step(*args: Any) -> None:
        if next(steps) == 5:
            signal.raise_signal(signal.SIGKILL)

    if when == 'killed':
        Silence.step = step
    else:
        Silence.print = lambda *args: signal.raise_signal(signal.SIGTERM)


if __name__ == '__main__':
    when, *arguments = sys.argv[1:]
    commandline.allow_callbacks()
    prepare(when)
    sys.argv[1:] = arguments
    from taclnet_jax.main import run

    run()
