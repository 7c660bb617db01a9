"""What a run shows while it goes on: a progress bar, metrics.jsonl, TensorBoard events."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

Item = TypeVar('Item')


class Reporter:
    """Writes metrics below a workdir and progress to the terminal. Use it in a `with` block.

    `metrics.jsonl` has one record a line. A run that goes on from a checkpoint first takes back the
    records after it, which it is going to write again.

    Args:
        workdir: the run's folder.
        first_step: the step that the run goes on from.
        total_steps: the run's last step, for the time left.
    """

    def __init__(self, workdir: Path, first_step: int, total_steps: int) -> None:
        # Imported late: it imports PyTorch where that is installed, which takes seconds.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._path = Path(workdir) / 'metrics.jsonl'
        keep = [record for record in read_metrics(self._path) if record['step'] <= first_step]
        write_text(self._path, ''.join(json.dumps(record) + '\n' for record in keep))
        self._file = self._path.open('a')
        # Not SummaryWriter: its thread dies silently on a full disk, and closing it then hangs.
        folder = Path(workdir) / 'tensorboard'
        folder.mkdir(exist_ok=True)
        self._events = EventsWriter(str(folder / 'events'))
        # TensorBoard then forgets what an interrupted run wrote after this step.
        start = SessionLog(status=SessionLog.START)
        self._events.write_event(Event(step=first_step + 1, session_log=start))
        self._progress = Progress(first_step, total_steps)

    def step(self, description: str, loss: float) -> None:
        """Shows that one more step is done, and the running loss."""
        self._progress.step(description, loss=loss)

    def metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Appends a record; its numbers become TensorBoard scalars."""
        from tensorboardX import summary

        self._file.write(json.dumps({'step': step, **metrics}) + '\n')
        self._file.flush()
        for key, value in metrics.items():
            if isinstance(value, int | float):
                self._event(step, summary.scalar(key, value))
        self._events.flush()

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Adds a picture `[height, width, 3]` uint8 to TensorBoard."""
        from tensorboardX import summary

        self._event(step, summary.image(name, picture, dataformats='HWC'))

    def print(self, line: str) -> None:
        """Prints a line above the progress bar."""
        tqdm.write(line, file=sys.stderr)

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.close()
        self._file.close()
        self._events.close()

    def _event(self, step: int, value: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._events.write_event(Event(step=step, wall_time=time.time(), summary=value))


class Progress:
    """A progress bar with the time left on a terminal, a plain line now and then elsewhere.

    Args:
        first: steps done before.
        total: steps in all.
        unit: what a step is.
        seconds_between_lines: where the output is no terminal.
    """

    def __init__(
        self, first: int, total: int, unit: str = 'step', seconds_between_lines: float = 10.0
    ) -> None:
        terminal = sys.stderr.isatty()
        # Not on a terminal: a file that throws the bar away, whose rate and time left are used.
        self._sink = None if terminal else open(os.devnull, 'w')  # noqa: SIM115 (closed in close)
        self._bar = tqdm(
            total=total, initial=first, unit=unit, file=self._sink, dynamic_ncols=terminal
        )
        self._between = seconds_between_lines
        self._last_line = time.monotonic()

    def step(self, description: str, **shown: float) -> None:
        """Counts a step and shows what is being done and with which numbers."""
        self._bar.set_description(description, refresh=False)
        self._bar.set_postfix({key: f'{x:.4f}' for key, x in shown.items()}, refresh=False)
        self._bar.update()
        due = time.monotonic() - self._last_line >= self._between
        if self._sink is not None and (due or self._bar.n == self._bar.total):
            self._last_line = time.monotonic()
            print(str(self._bar).lstrip('\r'), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()
        if self._sink is not None:
            self._sink.close()


def with_progress(items: Iterable[Item], total: int, what: str, unit: str) -> Iterator[Item]:
    """The items, with progress shown as they are taken."""
    progress = Progress(0, total, unit)
    for item in items:
        yield item
        progress.step(what)
    progress.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; none if it is not there. A half-written last line is left."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
