"""Makes the tables of results/: those in docs/results.md, between its marks, and their files.

python -m docs.make_results
"""

from __future__ import annotations

import re
from pathlib import Path

from reproduction.results import read_epoch_times, read_results
from reproduction.table_formats import command_of, markdown, table_files
from reproduction.tables import NO_RUN, make_tables

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / 'results'
PAGES = (ROOT / 'docs' / 'results.md',)
# <!-- table 1 isbi12 --> stands above all tables of that number, <!-- table 1 isbi12 first 2 -->
# above the first two of them alone.
MARK = re.compile(
    r'(<!-- table (\d) (\w+)(?: first (\d))? -->\n).*?(<!-- end of table -->)', re.DOTALL
)


def with_tables(text: str, folder: Path = RESULTS) -> str:
    """A page's text with the tables as the files of results in the folder have them."""
    results, epoch_times = read_results(folder), read_epoch_times(folder)

    def table(match: re.Match[str]) -> str:
        head, number, dataset, first, end = match.groups()
        tables = make_tables(int(number), dataset, results, epoch_times)
        shown = markdown(tables[: int(first)] if first else tables)
        if NO_RUN in shown:
            command = command_of(int(number), dataset)
            shown = f'What has {NO_RUN} is made by `{command}`.\n\n{shown}'
        return f'{head}{shown}\n{end}'

    return MARK.sub(table, text)


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
