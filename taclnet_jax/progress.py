"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar('Item')


class Progress:
    """A progress bar with the time left on a terminal, a plain line now and then elsewhere.

    Args:
        first, total: steps done before, and in all.
        unit: what a step is.
        seconds_between_lines: where the output is no terminal.
    """

    def __init__(
        self, first: int, total: int, unit: str = 'step', seconds_between_lines: float = 10.0
    ) -> None:
        self._stream = sys.stderr  # others may take its place meanwhile
        terminal = self._stream.isatty()
        # Not on a terminal: a file that throws the bar away, whose rate and time left are used.
        self._sink = None if terminal else open(os.devnull, 'w')  # noqa: SIM115 (closed in close)
        self._bar = tqdm(
            total=total, initial=first, unit=unit, file=self._sink, dynamic_ncols=terminal
        )
        self._between = seconds_between_lines
        self._last_line = time.monotonic()

    def step(self, description: str, **shown: float) -> None:
        """Counts a step and shows what is being done and with which numbers; NaN: none yet."""
        self._bar.set_description(description, refresh=False)
        known = {key: f'{x:.4f}' for key, x in shown.items() if not math.isnan(x)}
        self._bar.set_postfix(known, refresh=False)
        self._bar.update()
        due = time.monotonic() - self._last_line >= self._between
        if self._sink is not None and (due or self._bar.n == self._bar.total):
            self._last_line = time.monotonic()
            print(str(self._bar).lstrip('\r'), file=self._stream, flush=True)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()
        if self._sink is not None:
            self._sink.close()


def with_progress(items: Iterable[Item], total: int, what: str, unit: str) -> Iterator[Item]:
    """The items, with progress shown as they are taken."""
    with contextlib.closing(Progress(0, total, unit)) as progress:
        for item in items:
            yield item
            progress.step(what)
