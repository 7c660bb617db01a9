"""What was measured, as a section of docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

NOT_MEASURED = 'not measured'


def markdown(record: Mapping[str, Any]) -> str:
    """The page of the record of `benchmarks.accelerator`."""
    device = record['facts'].get('device', 'an unknown device')
    return '\n'.join([f'## On {device}', '', f'`{record["command"]}`', *_stages(record)]) + '\n'


def _stages(record: Mapping[str, Any]) -> Iterator[str]:
    for stage in record['stages'].values():
        yield from ('', f'### {stage["title"]}', '')
        yield f'{stage["state"][0].upper()}{stage["state"][1:]}.'
        for name, message in stage['failed'].items():
            yield from ('', f'Failed: {name}: {message}')
        for table in stage['tables']:
            yield from ('', *_table(table))


def _table(table: Mapping[str, Any]) -> Iterator[str]:
    yield from (f'{table["title"]}:', '')
    yield f'| {" | ".join([table["first"], *table["columns"]])} |'
    yield '|---' * (1 + len(table['columns'])) + '|'
    for name, row in table['rows'].items():
        cells = [_cell(row[c]) if c in row else NOT_MEASURED for c in table['columns']]
        yield f'| {" | ".join([name, *cells])} |'
    if table['note']:
        yield from ('', table['note'])


def _cell(value: Any) -> str:
    if isinstance(value, list):
        median, fastest = map(_cell, value)
        return f'{median} ({fastest})'
    if isinstance(value, float):
        return f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'
    return str(value)
