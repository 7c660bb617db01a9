"""The command line, which kills its own process: python killed.py WHEN WHERE ARGUMENTS...

WHEN is `step` or `validation`, and WHERE says before the end of which of them, from 1; or `stop`,
for SIGTERM before the first step; or it is an event that Python's audit hooks see, such as
os.rename, and WHERE is what its path begins with, below the folder of the run.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from taclnet_jax import commandline


def kill() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError('SIGKILL ends the process')


def at_call(
    function: Callable[..., Any], number: int, end: Callable[..., Any] = kill
) -> Callable[..., Any]:
    """The function, but for the call of this number."""
    left = iter(range(number - 1, -1, -1))

    def counted(*args: Any, **options: Any) -> Any:
        return function(*args, **options) if next(left) else end()

    return counted


def prepare(when: str, where: str, workdir: str) -> None:
    if when == 'step':
        from taclnet_jax.training.reporting import Reporter, Silence

        for reporter in (Reporter, Silence):
            reporter.step = at_call(reporter.step, int(where))
    elif when == 'stop':
        from taclnet_jax.training.reporting import Reporter, Silence

        for reporter in (Reporter, Silence):
            stop = partial(signal.raise_signal, signal.SIGTERM)
            reporter.print = at_call(reporter.print, 1, stop)
    elif when == 'validation':
        from taclnet_jax.evaluation.scoring import Validation

        Validation.__call__ = at_call(Validation.__call__, int(where))
    else:
        start = os.path.join(workdir, where)

        def hook(event: str, args: tuple[Any, ...]) -> None:
            if event == when and os.fsdecode(args[0]).startswith(start):
                kill()

        sys.addaudithook(hook)


if __name__ == '__main__':
    when, where, *arguments = sys.argv[1:]
    (workdir,) = (a.partition('=')[2] for a in arguments if a.startswith('--workdir='))
    commandline.allow_callbacks()
    prepare(when, where, workdir)
    sys.argv[1:] = arguments
    from taclnet_jax.main import run

    run()
