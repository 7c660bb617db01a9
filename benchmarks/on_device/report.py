"""What a stage has measured so far, in a file that is written whole after every cell."""

from __future__ import annotations

import contextlib
import json
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from taclnet_jax.files import write_text

Value = float | int | str | list[float]
"""Of a cell; a list is a median and, in brackets, the fastest."""


class Table:
    """Rows and columns, of which some may never be measured; `Report.table` makes it."""

    def __init__(self, report: Report, entry: dict[str, Any]) -> None:
        self._report, self._rows = report, entry['rows']

    def set(self, row: str, column: str, value: Value) -> None:
        """Fills a cell; a row that was not planned is added. The file is written if it changes."""
        cells = self._rows.setdefault(row, {})
        if cells.get(column) != value:
            cells[column] = value
            self._report.save()


class Report:
    """The tables, facts and files of a stage.

    Args:
        path: where they are kept, as JSON.
        known: the file of what earlier stages found.
        scratch: a folder that is thrown away in the end.
        seconds: after which the stage is ended.
        quick: whether sizes are to be small.
    """

    def __init__(self, path: Path, known: Path, scratch: Path, seconds: float, quick: bool) -> None:
        self.scratch, self.quick = scratch, quick
        self._path, self._end = path, time.monotonic() + seconds
        self._known = json.loads(known.read_text())['facts'] if known.exists() else {}
        self._tables: list[dict[str, Any]] = []
        self._facts: dict[str, Value] = {}
        self._files: dict[str, str] = {}
        self._failed: dict[str, str] = {}

    @property
    def seconds_left(self) -> float:
        """Until the stage is ended."""
        return self._end - time.monotonic()

    def table(
        self,
        title: str,
        columns: Iterable[str],
        rows: Iterable[str] = (),
        *,
        first: str = '',
        note: str = '',
    ) -> Table:
        """A new table.

        Args:
            title: with the unit.
            columns: names of those after the first.
            rows: names of those that are to be measured.
            first: heading of the names of the rows.
            note: what a reader has to know, below it.
        """
        entry: dict[str, Any] = {
            'title': title,
            'first': first,
            'columns': list(columns),
            'rows': {row: {} for row in rows},
            'note': note,
        }
        self._tables.append(entry)
        self.save()
        return Table(self, entry)

    def fact(self, name: str, value: Value) -> None:
        """Something that later stages ask for."""
        self._facts[name] = value
        self.save()

    def known(self, name: str) -> Any:
        """A fact of this stage or an earlier one; None if there is none."""
        return self._facts.get(name, self._known.get(name))

    def files(self, files: Mapping[str, str]) -> None:
        """Texts that are kept beside the report, by name of the file."""
        self._files |= files
        self.save()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What may fail without the rest of the stage: that is noted, and the stage goes on."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            lines = str(error).splitlines() or [type(error).__name__]
            self._failed[name] = lines[0][:200]
            self.save()

    def save(self) -> None:
        """Writes the file."""
        content = {
            'tables': self._tables,
            'facts': self._facts,
            'files': self._files,
            'failed': self._failed,
        }
        write_text(self._path, json.dumps(content) + '\n')
