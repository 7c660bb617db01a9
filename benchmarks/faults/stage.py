"""What the stages of `python -m benchmarks.faults` are made of."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple


class Outcome(NamedTuple):
    """What came of a piece of a stage.

    Attributes:
        label: in a few words; the page counts them.
        wrong: what is not as it should be; '' where all is.
        times: how often the fault was tried in it.
    """

    label: str
    wrong: str = ''
    times: int = 1


class LeftOut(Exception):
    """A stage cannot be had on this machine; says why."""


@dataclass(frozen=True)
class Place:
    """Where and how often a stage works.

    Attributes:
        scratch: of all stages, removed when the last one has ended.
        kept: gets what the fault was tried with, where something was wrong.
        count: how often the fault is tried.
    """

    scratch: Path
    kept: Path
    count: int

    def keep(self, path: Path, name: str) -> Path:
        """Copies a file or folder that has to be looked at; where it is now."""
        target = self.kept / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(path, target)
        else:
            shutil.copyfile(path, target)
        return target


Piece = Callable[[int, Random], Outcome]
"""Tries the fault once or a few times: the piece's number, and numbers that hang on it alone."""


@dataclass(frozen=True)
class Stage:
    """A fault.

    Attributes:
        name: for --only.
        fault, expected: for the page.
        whole, quick: how often it is tried.
        open: prepares it, and yields what tries it. Raises `LeftOut`.
    """

    name: str
    fault: str
    expected: str
    whole: int
    quick: int
    open: Callable[[Place], AbstractContextManager[Piece]]
