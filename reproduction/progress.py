"""What is said while runs are made: which one starts, the time that is left, what came of all."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from reproduction.systems import Run


class Progress:
    """Counts runs as they start and end, and says so.

    Args:
        missing: the runs to make.
        begun: when their making began, of `time.monotonic`.
        budget_minutes: after which none is started any more; None for as long as it takes.

    Attributes:
        finished: those that have a result.
        failed: why the others have none.
    """

    def __init__(
        self, missing: Sequence[Run], begun: float, budget_minutes: float | None = None
    ) -> None:
        self._missing, self._begun, self._started = missing, begun, 0
        self._budget = float('inf') if budget_minutes is None else 60 * budget_minutes
        self.finished: list[Run] = []
        self.failed: dict[Run, str] = {}

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        return time.monotonic() - self._begun >= self._budget

    def starts(self, run: Run) -> None:
        """Says that a run starts."""
        self._started += 1
        done, spent = len(self.finished) + len(self.failed), time.monotonic() - self._begun
        left = (len(self._missing) - done) * spent / done if done else 0.0
        when = f'about {duration(left)} left' if done else 'starting'
        say(f'Run {self._started} of {len(self._missing)} ({when}): {run}.')

    def ended(self, run: Run, message: str = '') -> None:
        """Notes that a run has ended, with the message if it failed."""
        if message:
            self.failed[run] = message
            say(f'Failed: {run}: {message}')
        else:
            self.finished.append(run)

    def interrupted(self) -> None:
        """Says how far it came."""
        say(f'{len(self.finished)} of {len(self._missing)} runs were finished.')

    def summary(self) -> None:
        """Says what came of all of them."""
        say(f'Finished {len(self.finished)} of {len(self._missing)} missing runs.')
        if rest := len(self._missing) - len(self.finished) - len(self.failed):
            say(f'{rest} were not started: the budget is spent.')
        for run, message in self.failed.items():
            say(f'Failed: {run}: {message}')


def duration(seconds: float) -> str:
    """A time in hours and minutes."""
    minutes = round(seconds / 60)
    return f'{minutes // 60} h {minutes % 60} min' if minutes >= 60 else f'{minutes} min'


def say(line: str) -> None:
    """Prints a line to standard error at once."""
    print(line, file=sys.stderr, flush=True)
