"""Makes the tables of results/: those in the pages, between their marks, and their files.

python -m docs.make_results
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from reproduction.results import read_epoch_times, read_results
from reproduction.table_formats import command_of, markdown, table_files
from reproduction.tables import CLOSED, NO_RUN, TITLE_OF, Entry, Table, make_tables
from taclnet_jax.metrics.maps import TITLES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / 'results'
# <!-- table 1 isbi12 --> stands above all tables of that number; with "short" behind it, and maybe
# several data sets, above what systems that have a run come to at last: P_hat, membranes closed,
# of the most folds.
MARK = re.compile(
    r'(<!-- table (\d) ([\w ]+?)(?: (short))? -->\n).*?(<!-- end of table -->)', re.DOTALL
)
PAGES = tuple(
    page
    for page in (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')))
    if MARK.search(page.read_text())
)


def with_tables(text: str, folder: Path = RESULTS) -> str:
    """A page's text with the tables as the files of results in the folder have them."""
    results, epoch_times = read_results(folder), read_epoch_times(folder)

    def table(match: re.Match[str]) -> str:
        head, number, datasets, short, end = match.groups()
        tables = {
            name: make_tables(int(number), name, results, epoch_times) for name in datasets.split()
        }
        shown = _short(tables) if short else markdown([t for of in tables.values() for t in of])
        if not short and NO_RUN in shown or not shown:
            command = command_of(int(number), datasets.split()[0])
            shown = f'What has {NO_RUN} is made by `{command}`.\n\n{shown}'
        return f'{head}{shown.rstrip()}\n\n{end}'

    return MARK.sub(table, text)


def _short(tables: Mapping[str, Sequence[Table]]) -> str:
    """The rows of P_hat in the first table of closed maps of each data set; '' if there is none."""
    header, body = [], []
    for dataset, of_dataset in tables.items():
        closed = next((table for table in of_dataset if CLOSED in table.title), None)
        if closed is None:
            continue
        header = ['data', *closed.header]
        body += [
            [Entry(TITLE_OF[dataset]), *(entry._replace(bold=False) for entry in row)]
            for row in closed.body
            if row[1].text == TITLES['P_hat_closed']
        ]
    return markdown([Table('', header, body, [], [])]).split('\n', 2)[2] if body else ''


def files_of_tables(folder: Path = RESULTS) -> dict[str, str]:
    """The texts of the tables' files, by name, of all data sets that have results."""
    results, epoch_times = read_results(folder), read_epoch_times(folder)
    return {
        name: text
        for dataset in sorted({result['dataset'] for result in results})
        for number in (1, 2, 3)
        for name, text in table_files(
            number, dataset, make_tables(number, dataset, results, epoch_times)
        ).items()
    }


def write_files(folder: Path = RESULTS) -> None:
    """Writes the tables' files, and removes those of data sets without a result."""
    made = files_of_tables(folder)
    for path in folder.glob('table*_*.*'):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (folder / name).write_text(text)


if __name__ == '__main__':
    for page in PAGES:
        page.write_text(with_tables(page.read_text()))
    write_files()
