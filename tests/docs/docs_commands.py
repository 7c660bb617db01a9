"""Runs commands of the documentation one after the other, in one process that imports JAX once.

    python docs_commands.py COMMANDS.json RESULTS.json

COMMANDS.json is a list of [module, flags, whether to run it]; a command that is not run has its
flags and its configuration checked by its own parser. RESULTS.json gets the exit status of each and
what it printed.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import flags

from taclnet_jax import commandline
from taclnet_jax.config import check_config

_run = commandline.run


def _check(main: Any, description: str | None, shown: Sequence[flags.FlagHolder[Any]]) -> NoReturn:
    """In place of `commandline.run`: everything up to the command itself."""
    if '--help' not in sys.argv:
        commandline._parse(sys.argv, shown)
        for holder in shown:
            if holder.name == 'config' and holder.value is not None:
                commandline.with_messages(lambda value=holder.value: check_config(value))
    sys.exit(0)


def execute(module: str, arguments: list[str], run: bool) -> tuple[int, str]:
    """(exit status, output and errors) of `python -m module arguments`."""
    before = set(flags.FLAGS)
    commandline.run = _run if run else _check
    sys.argv = [module, *arguments]
    output = io.StringIO()
    status = 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            runpy.run_module(module, run_name='__main__', alter_sys=True)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except Exception:
            traceback.print_exc()
            status = 1
    # The next command defines flags of its own.
    for name in set(flags.FLAGS) - before:
        with contextlib.suppress(AttributeError):
            delattr(flags.FLAGS, name)
    return status, output.getvalue()


if __name__ == '__main__':
    commands, results = map(Path, sys.argv[1:])
    done = [execute(*command) for command in json.loads(commands.read_text())]
    results.write_text(json.dumps(done))
