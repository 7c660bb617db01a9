"""What a run shows while it goes on: a progress bar, metrics.jsonl, TensorBoard events."""

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from taclnet_jax.files import parse_json, write_text
from taclnet_jax.progress import Progress


class Reporter:
    """Writes metrics below a workdir and progress to the terminal.

    `metrics.jsonl` has one record a line. A run that goes on from a checkpoint first takes back the
    records after it, which it is going to write again.

    Args:
        workdir: the run's folder.
        first_step, total_steps: what the run goes on from, and its last one, for the time left.
    """

    def __init__(self, workdir: Path, first_step: int, total_steps: int) -> None:
        # Imported late: it imports PyTorch where that is installed, which takes seconds.
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._summary, self._event_type = summary, Event
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
        """Appends a record; its numbers become TensorBoard scalars.

        Those that are not finite are left out: JSON has no such numbers.
        """
        finite = {
            key: value
            for key, value in metrics.items()
            if not isinstance(value, float) or math.isfinite(value)
        }
        self._file.write(json.dumps({'step': step, **finite}, allow_nan=False) + '\n')
        self._file.flush()
        for key, value in finite.items():
            if isinstance(value, int | float):
                self._event(step, self._summary.scalar(key, value))
        self._events.flush()

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Adds a picture `[height, width, 3]` uint8 to TensorBoard."""
        self._event(step, self._summary.image(name, picture, dataformats='HWC'))

    def print(self, line: str) -> None:
        """Prints a line above the progress bar."""
        tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        """Ends the bar and the files."""
        self._progress.close()
        self._file.close()
        self._events.close()

    def _event(self, step: int, value: Any) -> None:
        event = self._event_type(step=step, wall_time=time.time(), summary=value)
        self._events.write_event(event)


class Silence:
    """The reporter of all processes but the first."""

    def step(self, description: str, loss: float) -> None: ...

    def metrics(self, step: int, metrics: Mapping[str, Any]) -> None: ...

    def image(self, step: int, name: str, picture: np.ndarray) -> None: ...

    def print(self, line: str) -> None: ...

    def close(self) -> None: ...


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; none if it is not there. Damaged lines are left out."""
    records = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            record = parse_json(line)
        except ValueError:  # no JSON, or no UTF-8
            continue
        if isinstance(record, dict) and isinstance(record.get('step'), int):
            records.append(record)
    return records
