"""The command line of one process of several: python signalled.py WHEN ARGUMENTS...

WHEN is `killed`, at the end of step 5, or `stopped`, by SIGTERM before the first step, both of a
second process; or `slow`, where the end of phase one takes long to write, of the first.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from taclnet_jax import commandline


def prepare(when: str) -> None:
    from taclnet_jax.training.reporting import Silence

    steps = iter(range(1, 6))

    def step(*args: Any) -> None:
        if next(steps) == 5:
            signal.raise_signal(signal.SIGKILL)

    def stop(*args: Any) -> None:
        if 'Devices' in args[1]:
            signal.raise_signal(signal.SIGTERM)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == 'os.rename' and 'phase_one' in os.fsdecode(args[0]):
            time.sleep(4)

    if when == 'killed':
        Silence.step = step
    elif when == 'slow':
        sys.addaudithook(hook)
    else:
        Silence.print = stop


if __name__ == '__main__':
    when, *arguments = sys.argv[1:]
    commandline.allow_callbacks()
    prepare(when)
    sys.argv[1:] = arguments
    from taclnet_jax.main import run

    run()
