"""Puts the tables of results/ into README.md and results.md, between their marks.

python docs/make_results.py
"""

from __future__ import annotations

import re
from pathlib import Path

from reproduction.results import read_epoch_times, read_results
from reproduction.table_formats import markdown
from reproduction.tables import make_tables

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / 'README.md', ROOT / 'docs' / 'results.md')
# <!-- table 1 isbi12 --> stands above all tables of that number, <!-- table 1 isbi12 first 2 -->
# above the first two of them alone.
MARK = re.compile(
    r'(<!-- table (\d) (\w+)(?: first (\d))? -->\n).*?(<!-- end of table -->)', re.DOTALL
)


def with_tables(text: str) -> str:
    """A page's text with the tables as the files of results have them."""
    results, epoch_times = read_results(ROOT / 'results'), read_epoch_times(ROOT / 'results')

    def table(match: re.Match[str]) -> str:
        head, number, dataset, first, end = match.groups()
        tables = make_tables(int(number), dataset, results, epoch_times)
        shown = tables[: int(first)] if first else tables
        return f'{head}{markdown(shown)}\n{end}'

    return MARK.sub(table, text)


if __name__ == '__main__':
    for page in PAGES:
        page.write_text(with_tables(page.read_text()))
