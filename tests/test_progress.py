"""Progress of long work, on a terminal and in a log."""

import io
import math
import sys

import pytest

from taclnet_jax.progress import Progress


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, 'stderr', terminal)
    progress = Progress(0, 1)
    progress.step('phase 1, epoch 1', loss=math.nan)  # the first step's is not there yet
    progress.close()
    assert '1/1' in terminal.getvalue() and 'loss' not in terminal.getvalue()

    progress = Progress(0, 1)
    progress.step('phase 1, epoch 1', loss=0.25)
    progress.close()
    assert 'loss=0.2500' in terminal.getvalue()


def test_a_log_has_lines(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(1, 3, 'section', seconds_between_lines=0)
    progress.step('Prediction')
    progress.step('Prediction')
    progress.close()
    first, second = capsys.readouterr().err.splitlines()
    assert '2/3' in first and 'section/s' in first
    assert second.startswith('Prediction: 100%')
