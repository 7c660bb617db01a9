"""All that is to be known of an accelerator, in the minutes that there is one.

    TACLNET_DATA_DIR=/data python -m benchmarks.accelerator --minutes=8 --output=DIR

Stages, in the order of what we want to know most:

  1  device, driver, versions; rates of copying and of multiplying: the roofline
  2  exactness: persistence pairs, attention, a training step
  3  one training step of each kind, and PyTorch's where it is installed
  4  critical points
  5  prediction
  6  the loader against what a step eats
  7  runs of the tables, for the rest of the minutes

Each has a process of its own and a share of the time that is left; what one does not need is for
those after it. A stage that fails or runs over keeps what it had measured, and the next one begins.
While they go on, all that is known is written whole into DIR: accelerator.md, to be pasted into
docs/performance.md; accelerator.json; accelerator.log, what the stages printed; and runs.json, the
results of finished runs. Once more with --quick, sizes are small: the rehearsal, on any machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.on_device.page import NOT_MEASURED, markdown
from taclnet_jax.commandline import fail, interrupt, with_messages
from taclnet_jax.files import write_text

ROOT = Path(__file__).parents[1]
LEAST_S = 5.0
"""With less no stage is begun."""

GRACE_S = 3.0
"""For a stage that is told to end, before it is killed."""

LOG_BYTES = 100_000
"""Of a stage's output, its end."""


@dataclass(frozen=True)
class Stage:
    """A part of the command.

    Attributes:
        number: for --stages.
        title: of its section.
        module: whose `measure` it calls.
        share: of the time, in proportion to the shares of those that follow.
        memory: part of an accelerator's memory that JAX takes.
    """

    number: int
    title: str
    module: str
    share: float
    memory: float = 0.75


STAGES = (
    Stage(1, 'Device and roofline', 'benchmarks.on_device.roofline', 0.08),
    Stage(2, 'Exactness', 'benchmarks.on_device.exactness', 0.15),
    # The other half is for PyTorch, in the same process.
    Stage(3, 'Training step', 'benchmarks.on_device.steps', 0.35, memory=0.5),
    Stage(4, 'Critical points', 'benchmarks.on_device.points', 0.10),
    Stage(5, 'Prediction', 'benchmarks.on_device.prediction', 0.10),
    Stage(6, 'Loading', 'benchmarks.on_device.loading', 0.07),
    Stage(7, 'Runs of the tables', 'benchmarks.on_device.runs', 0.15, memory=0.9),
)


class Measurement:
    """All stages of a command, and the folder that gets what they find.

    Args:
        stages: in order.
        output: the folder.
        seconds: for all of them.
        quick: whether sizes are small.
    """

    def __init__(self, stages: Sequence[Stage], output: Path, seconds: float, quick: bool) -> None:
        self._stages, self._output, self._quick = stages, output, quick
        self._end = time.monotonic() + seconds
        self._record: dict[str, Any] = {
            'command': f'python -m benchmarks.accelerator --minutes={seconds / 60:g}'
            + ' --quick' * quick,
            'facts': {},
            'stages': {
                str(stage.number): {
                    'title': stage.title,
                    'state': NOT_MEASURED,
                    'tables': [],
                    'failed': {},
                }
                for stage in stages
            },
        }
        self._seen = self._log = ''

    def run(self) -> bool:
        """Runs all stages; whether none failed, in whole or in part."""
        self._write({})
        failed = False
        with tempfile.TemporaryDirectory(
            prefix='accelerator_', ignore_cleanup_errors=True
        ) as scratch:
            for i, stage in enumerate(self._stages):
                shares = sum(later.share for later in self._stages[i:])
                left = self._end - time.monotonic()
                entry = self._record['stages'][str(stage.number)]
                if left < LEAST_S:
                    entry['state'] = f'{NOT_MEASURED}: the time is over'
                else:
                    start = time.monotonic()
                    state = self._run_stage(stage, left * stage.share / shares, Path(scratch))
                    entry['state'] = f'{state} after {time.monotonic() - start:.0f} s'
                    failed |= state.startswith('failed') or bool(entry['failed'])
                self._write({})
                parts = f', without {", ".join(entry["failed"])}' if entry['failed'] else ''
                print(f'{stage.number} {stage.title}: {entry["state"]}{parts}.', flush=True)
        return not failed

    def _run_stage(self, stage: Stage, limit: float, scratch: Path) -> str:
        """What became of it."""
        report, known = scratch / f'{stage.number}.json', self._output / 'accelerator.json'
        log = scratch / f'{stage.number}.log'
        command = [sys.executable, '-m', 'benchmarks.on_device', stage.module]
        command += [f'--report={report}', f'--known={known}', f'--scratch={scratch}']
        command += [f'--seconds={limit}', *(['--quick'] if self._quick else [])]
        end = time.monotonic() + limit
        with log.open('wb') as output:
            process = subprocess.Popen(
                command,
                env=_environment(stage, scratch, self._quick),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                while process.poll() is None and time.monotonic() < end:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.5)
                    self._take(stage, report)
                status = process.poll()
            finally:
                _end_group(process)
        self._take(stage, report)
        text = log.read_bytes()[-LOG_BYTES:].decode(errors='replace')
        self._log += f'--- {stage.number} {stage.title}\n{text}\n'
        if status is None:
            return f'ran over its {limit:.0f} s; ended'
        if status:
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            return f'failed ({lines[-1][:200] if lines else f"status {status}"})'
        return 'finished'

    def _take(self, stage: Stage, report: Path) -> None:
        """Takes over what a stage has found, and writes it if it is new."""
        text = report.read_text() if report.exists() else self._seen
        if text == self._seen:
            return
        self._seen, found = text, json.loads(text)
        self._record['stages'][str(stage.number)] |= {
            'state': 'unfinished',
            'tables': found['tables'],
            'failed': found['failed'],
        }
        self._record['facts'] |= found['facts']
        self._write(found['files'])

    def _write(self, files: dict[str, str]) -> None:
        texts = {
            'accelerator.json': json.dumps(self._record, indent=1) + '\n',
            'accelerator.md': markdown(self._record),
            'accelerator.log': self._log,
            **files,
        }
        for name, text in texts.items():
            write_text(self._output / name, text)


def _environment(stage: Stage, scratch: Path, quick: bool) -> dict[str, str]:
    path = filter(None, (str(ROOT), os.environ.get('PYTHONPATH')))
    memory = {'XLA_PYTHON_CLIENT_MEM_FRACTION': str(stage.memory)}
    return {
        # What one stage has compiled, those after it load.
        'JAX_COMPILATION_CACHE_DIR': str(scratch / 'compiled'),
        # JAX refuses both of its names at once.
        **({} if 'XLA_CLIENT_MEM_FRACTION' in os.environ else memory),
        **os.environ,
        'PYTHONPATH': os.pathsep.join(path),
        'PYTHONUNBUFFERED': '1',
        # Rehearsals are for whether it runs, and compiling is most of their time.
        **({'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'} if quick else {}),
    }


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a stage, if it still runs, and whatever it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        fail(message)


def _parsed() -> argparse.Namespace:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=_minutes, required=True, help='for all stages')
    parser.add_argument('--output', type=Path, required=True, help='folder of what is found')
    parser.add_argument(
        '--stages', type=_stages, default=STAGES, help='their numbers, such as 1,3; all by default'
    )
    parser.add_argument('--quick', action='store_true', help='small sizes: the rehearsal')
    return parser.parse_args()


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < float('inf'):
        raise argparse.ArgumentTypeError(f'expected a number above 0, found {text!r}.')
    return minutes


def _stages(text: str) -> tuple[Stage, ...]:
    numbers = text.split(',')
    there = [str(stage.number) for stage in STAGES]
    if not set(numbers) <= set(there):
        raise argparse.ArgumentTypeError(
            f'expected numbers out of {",".join(there)}, found {text!r}.'
        )
    return tuple(stage for stage in STAGES if str(stage.number) in numbers)


def main() -> None:
    """Runs the stages."""
    args = _parsed()
    args.output.mkdir(parents=True, exist_ok=True)
    # As by Ctrl-C: the stage that runs is ended, too.
    signal.signal(signal.SIGTERM, interrupt)
    if not Measurement(args.stages, args.output, 60 * args.minutes, args.quick).run():
        sys.exit(1)


if __name__ == '__main__':
    with_messages(main)
