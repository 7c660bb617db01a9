"""Tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from reproduction.tables import Entry, Table

_LATEX = {
    '\\': r'\textbackslash{}',
    '&': r'\&',
    '%': r'\%',
    '$': r'\$',
    '#': r'\#',
    '_': r'\_',
    '{': r'\{',
    '}': r'\}',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '<': r'$<$',
    '>': r'$>$',
    '±': r'$\pm$',
    '–': '--',
}


def table_files(number: int, dataset: str, tables: Sequence[Table]) -> dict[str, str]:
    """The texts of `table<number>_<dataset>.md`, `.tex` and `.csv`, by these names."""
    name, command = f'table{number}_{dataset}', command_of(number, dataset)
    heading = f'% {command}\n% Needs \\usepackage{{booktabs}}.\n'
    return {
        f'{name}.md': f'{markdown(tables)}\nMade by `{command}`.\n',
        f'{name}.tex': heading + '\n'.join(map(latex, tables)),
        f'{name}.csv': comma_separated(tables),
    }


def command_of(number: int, dataset: str) -> str:
    """What makes the runs of a table, and the table."""
    return f'python -m reproduction --table={number} --dataset={dataset}'


def markdown(tables: Sequence[Table]) -> str:
    """A heading, the table and its notes for each; notes are not repeated."""

    def cell(entry: Entry) -> str:
        text = entry.text.replace('|', r'\|')
        return f'**{text}**' if entry.bold else text

    said: set[str] = set()
    lines = []
    for table in tables:
        lines += [f'### {table.title}', '', _line(table.header)]
        lines += [_line(['---'] * len(table.header))]
        lines += [_line([cell(entry) for entry in row]) for row in table.body] + ['']
        notes = [f'- {note}' for note in table.notes if note not in said]
        lines += [*notes, ''] if notes else []
        said.update(table.notes)
    return '\n'.join(lines)


def latex(table: Table) -> str:
    """A `table` environment with the notes below."""

    def cell(entry: Entry) -> str:
        text = escape(entry.text)
        return rf'\textbf{{{text}}}' if entry.bold else text

    rows = [' & '.join(map(escape, table.header)) + r' \\', r'\midrule']
    rows += [' & '.join(map(cell, row)) + r' \\' for row in table.body]
    return '\n'.join(
        [
            r'\begin{table}',
            rf'\caption{{{escape(table.title)}}}',
            r'\centering\footnotesize',
            rf'\begin{{tabular}}{{{"l" * len(table.header)}}}',
            r'\toprule',
            *rows,
            r'\bottomrule',
            r'\end{tabular}',
            *(rf'\par {escape(note)}' for note in table.notes),
            r'\end{table}',
            '',
        ]
    )


def escape(text: str) -> str:
    """Text for LaTeX: its special characters, and those that its fonts lack."""
    return ''.join(_LATEX.get(character, character) for character in text)


def comma_separated(tables: Sequence[Table]) -> str:
    """A line for each metric of each row, with more digits and columns than the other forms."""
    records = [record for table in tables for record in table.values]
    fields = list(dict.fromkeys(key for record in records for key in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, restval='', lineterminator='\n')
    writer.writeheader()
    for record in records:
        writer.writerow({k: f'{v:.6g}' if isinstance(v, float) else v for k, v in record.items()})
    return text.getvalue()


def _line(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cells)} |'
