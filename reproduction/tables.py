"""The poster's tables, ours beside its, from files of results alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, NamedTuple

from reproduction import poster
from reproduction.comparison import Cell, Row, fill_column, fold_differences, interval
from reproduction.notes import (
    COMPARED,
    EPOCH_TIMES,
    SHARED_RUNS,
    closing_notes,
    notes_below,
    sections_held_out,
)
from reproduction.results import Result
from reproduction.systems import BACKBONES, SLICES, SYSTEMS
from taclnet_jax.metrics import COLUMNS
from taclnet_jax.metrics.maps import CLOSED_MAPS, TITLES

# Title and decimals, as the poster has them.
_POSTER = {
    'dice': ('DICE', 4),
    'ari': ('ARI', 4),
    'voi': ('VOI', 3),
    'betti_error': ('Betti error', 3),
}
TITLE_OF = {
    'isbi12': 'ISBI12',
    'isbi13': 'ISBI13 (SNEMI3D)',
    'cremi': 'CREMI',
    'synthetic': 'the synthetic volume',
}


NO_RUN = 'no run yet'
CLOSED = 'Membranes closed by watershed'


class Entry(NamedTuple):
    """Text of a table, with how to show it."""

    text: str
    bold: bool = False


@dataclass
class Table:
    """What the writers of `reproduction.table_formats` turn into Markdown, LaTeX and CSV.

    Attributes:
        title: one line.
        header: titles of the columns.
        body: rows of entries.
        notes: below it.
        values: the same and more as records for CSV.
    """

    title: str
    header: list[str]
    body: list[list[Entry]]
    notes: list[str]
    values: list[dict[str, Any]]


def make_tables(
    number: int,
    dataset: str,
    results: Sequence[Result],
    epoch_times: Sequence[Mapping[str, Any]] = (),
) -> list[Table]:
    """One of the poster's three tables for a data set, and what belongs to it.

    Args:
        number: 1 (systems), 2 (ablation) or 3 (number of sections).
        dataset: the data set.
        results: of any data sets.
        epoch_times: for table 3, as `benchmarks/epoch.py` leaves them.
    """
    results = [result for result in results if result['dataset'] == dataset]
    where = TITLE_OF.get(dataset, dataset)
    if any(result['content'] == 'synthetic' for result in results) and dataset != 'synthetic':
        where += ' layout, SYNTHETIC CONTENT'
    if number != 3:
        results = [result for result in results if result['slices'] == SLICES]
    if number == 1:
        rows = [
            _row(results, system, poster=poster.TABLE_1.get(dataset, {}).get(system, {}))
            for system in SYSTEMS
        ]
        at_test = [
            _row(results, name, 'P_hat') for name, system in SYSTEMS.items() if system.scored == 'P'
        ]
        first = _score_tables(f'Table 1: systems on {where}', rows, _POSTER, 'poster')
        for table in first:
            table.notes += [COMPARED] if dataset in poster.TABLE_1 else []
        if not results:
            return first
        return [
            *first,
            *_score_tables(
                f'The same networks with STA at test alone on {where}', at_test, _POSTER
            ),
            *_closed_membranes(results, where),
            *_further_metrics(rows, where),
        ]
    theirs = 'poster' if dataset == 'cremi' else 'poster (CREMI)'
    if number == 2:
        return [
            table
            for backbone, systems in BACKBONES.items()
            for table in _ablation(results, backbone, systems, where, theirs)
        ]
    tables = [
        table
        for system in _systems_of(results)
        for table in _slices_tables(results, system, where, theirs)
    ]
    return tables + ([_epoch_table(epoch_times)] if epoch_times else [])


def _ablation(
    results: Sequence[Result], backbone: str, systems: Sequence[str], where: str, theirs: str
) -> list[Table]:
    published = poster.TABLE_2 if backbone == 'ConvLSTM' else {}
    own = [result for result in results if result['system'] in systems]
    results = _of_shared_seeds(own, 'system')
    rows = [_row(results, system, poster=published.get(system, {})) for system in systems]
    both = [
        _row(results, system, map_, title=f'{training} / {test}')
        for system, training in zip(systems, ('none', 'STA', 'STA+ITA'), strict=True)
        for map_, test in (('P', 'none'), ('P_hat', 'STA'))
    ]
    tables = _score_tables(f'Table 2: ablation on {where}, {backbone}', rows, _POSTER, theirs)
    if any(row.results for row in rows):
        title = f'Attention in training / at test on {where}, {backbone}'
        tables += _score_tables(title, both, _POSTER)
    for table in tables:
        table.notes += [SHARED_RUNS] if len(results) < len(own) else []
    return tables


def _further_metrics(rows: Sequence[Row], where: str) -> list[Table]:
    found = dict.fromkeys(
        metric
        for row in rows
        for result in row.results
        for metric in result[row.map]['scores']
        if metric not in _POSTER
    )
    columns = {metric: (COLUMNS.get(metric, metric), 3) for metric in found}
    rows = [Row(row.title, row.system, row.slices, row.map, row.results) for row in rows]
    return _score_tables(f'Further metrics on {where}', rows, columns)


def _closed_membranes(results: Sequence[Result], where: str) -> list[Table]:
    """The systems that have a run, with their membranes closed, as P and as P_hat."""
    rows = {
        map_: [
            _row(results, name, map_)
            for name in SYSTEMS
            if any(result['system'] == name for result in results)
        ]
        for map_ in CLOSED_MAPS
    }
    both = [row for pair in zip(*rows.values(), strict=True) for row in pair]
    tables = _score_tables(f'{CLOSED} on {where}', both, _POSTER)
    for table in tables:
        table.notes += closing_notes(results)
    return tables + _differences(rows['P_hat_closed'], where)


def _systems_of(results: Sequence[Result]) -> list[str]:
    """TACLNet, and what else was trained with another number of sections than the poster's."""
    others = {result['system'] for result in results if result['slices'] != SLICES}
    return ['taclnet', *(s for s in SYSTEMS if s in others and s != 'taclnet')]


def _slices_tables(results: Sequence[Result], system: str, where: str, theirs: str) -> list[Table]:
    published = poster.TABLE_3 if system == 'taclnet' else {}
    own = [result for result in results if result['system'] == system]
    results = _of_shared_seeds(_of_shared_folds(own), 'slices')
    all_rows = [
        _row(results, system, slices=n, title=f'{n}s', poster=published.get(n, {}))
        for n in poster.HOURS_PER_EPOCH
    ]
    columns = {key: column for key, column in _POSTER.items() if key != 'dice'}
    title = f'Table 3: number of sections on {where}, {SYSTEMS[system].title}'
    tables = _score_tables(title, all_rows, columns, theirs)
    several = len({result['hardware'] for row in all_rows for result in row.results}) > 1
    by_title = {row.title: row for row in all_rows}
    for table in tables:
        table.header += ['time per epoch'] + ([theirs] if published else [])
        rows = [by_title[entries[0].text] for entries in table.body]
        for row, entries in zip(rows, table.body, strict=True):
            entries.append(Entry(_epoch_time(row.results, several)))
            if published:
                entries.append(Entry(f'{poster.HOURS_PER_EPOCH[row.slices]:.2f} h'))
        table.notes += sections_held_out(rows)
        if any(row.results for row in rows):
            table.notes += [EPOCH_TIMES] + ([SHARED_RUNS] if len(results) < len(own) else [])
    return tables


def _of_shared_folds(results: Sequence[Result]) -> list[Result]:
    """Those of the folds that each number of sections has; all where there is no such fold."""
    folds: dict[int, set[int]] = {}
    for result in results:
        folds.setdefault(result['slices'], set()).add(result['fold'])
    shared = set.intersection(*folds.values()) if folds else set()
    return [result for result in results if result['fold'] in shared or not shared]


def _of_shared_seeds(results: Sequence[Result], row: str) -> list[Result]:
    """Of each fold those of the seeds that all its rows have; all where no fold has such a seed.

    `row` is what rows differ in: 'system' or 'slices'.
    """
    seeds: dict[int, dict[Any, set[int]]] = {}
    for result in results:
        of_fold = seeds.setdefault(result['fold'], {})
        of_fold.setdefault(result[row], set()).add(result['seed'])
    shared = {fold: set.intersection(*of_rows.values()) for fold, of_rows in seeds.items()}
    return [r for r in results if r['seed'] in shared[r['fold']]] or [*results]


def _epoch_time(results: Sequence[Result], name_hardware: bool) -> str:
    """Median over runs of an epoch of phase two, the one with attention, on each hardware."""
    times: dict[str, list[float]] = {}
    for result in results:
        seconds = result['seconds']
        if found := seconds.get('epoch_phase_2') or seconds.get('epoch_phase_1'):
            times.setdefault(result['hardware'], []).append(found)
    return (
        '; '.join(
            _duration(median(values)) + (f' ({hardware})' if name_hardware else '')
            for hardware, values in sorted(times.items())
        )
        or NO_RUN
    )


def _epoch_table(times: Sequence[Mapping[str, Any]]) -> Table:
    """Times of an epoch of CREMI's shape on the hardware that has been tried."""
    header = ['hardware', 'system', *(f'l = {n}' for n in poster.HOURS_PER_EPOCH)]
    header += ['l = 5 / l = 1', 'poster / here, l = 3']
    hours = {'poster (not named)': {'TACLNet': poster.HOURS_PER_EPOCH}}
    for record in times:
        hours[record['hardware']] = {
            system: {n: seconds / 3600 for n, seconds in of_slices.items()}
            for system, of_slices in record['seconds'].items()
        }
    body, values = [], []
    for hardware, systems in hours.items():
        for system, of_slices in systems.items():
            cells = [f'{of_slices[n]:.4g} h' for n in poster.HOURS_PER_EPOCH]
            cells.append(f'{of_slices[5] / of_slices[1]:.2f}')
            cells.append(f'{poster.HOURS_PER_EPOCH[3] / of_slices[3]:.4g}')
            body.append([Entry(text) for text in (hardware, system, *cells)])
            values += [
                {
                    'table': 'time of an epoch',
                    'dataset': 'cremi',
                    'hardware': hardware,
                    'row': system,
                    'slices': n,
                    'metric': 'hours per epoch',
                    'mean': of_slices[n],
                }
                for n in poster.HOURS_PER_EPOCH
            ]
    shapes = {(record['windows'], tuple(record['crop'])) for record in times}
    notes = [
        f'{windows} windows of {height}x{width}, the number and shape of an epoch of CREMI; '
        'measured steps times their number (python -m benchmarks.epoch).'
        for windows, (height, width) in sorted(shapes)
    ]
    return Table("Time of a training epoch of CREMI's shape", header, body, notes, values)


def _row(
    results: Sequence[Result],
    system: str,
    map_: str = '',
    *,
    slices: int = SLICES,
    title: str = '',
    poster: poster.Scores | None = None,
) -> Row:
    return Row(
        title or SYSTEMS[system].title,
        system,
        slices,
        map_ or SYSTEMS[system].scored,
        [r for r in results if r['system'] == system and r['slices'] == slices],
        poster or {},
    )


def _score_tables(
    title: str, rows: Sequence[Row], columns: Mapping[str, tuple[str, int]], theirs: str = ''
) -> list[Table]:
    """A table for each set of folds that rows rest on, the largest first.

    Folds differ in difficulty: means over one fold and over three do not compare. Rows without a
    result stand in the first.
    """
    sets = {row.folds for row in rows if row.folds}
    ordered = sorted(sets, key=lambda folds: (-len(folds), folds)) or [()]
    return [
        _score_table(
            f'{title}, {_of_folds(folds)}' if len(ordered) > 1 else title,
            [row for row in rows if row.folds == folds or (not row.folds and folds == ordered[0])],
            columns,
            theirs,
        )
        for folds in ordered
    ]


def _score_table(
    title: str, rows: list[Row], columns: Mapping[str, tuple[str, int]], theirs: str = ''
) -> Table:
    """Rows of scores; with `theirs` the poster's numbers have columns of that name."""
    for metric in columns:
        fill_column(rows, metric)
    theirs = theirs if any(row.poster for row in rows) else ''
    header = ['system', 'map']
    for name, _ in columns.values():
        header += [name, theirs] if theirs else [name]
    body = []
    for row in rows:
        entries = [Entry(row.title), Entry(TITLES[row.map])]
        for metric, (_, decimals) in columns.items():
            entries.append(entry(row.cells[metric], decimals))
            if theirs:
                score = row.poster.get(metric)
                entries.append(Entry(_score(*score, decimals) if score else ''))
        body.append([*entries, Entry(_behind(row)), Entry(row.updates)])
    return Table(title, [*header, 'runs', 'updates'], body, notes_below(rows), _values(title, rows))


def _differences(rows: Sequence[Row], where: str) -> list[Table]:
    """Each system minus the flagship, on the folds that both have."""
    references = [row for row in rows if row.system == 'flagship']
    others = [row for row in rows if row.system != 'flagship' and row.results]
    if not references or not others:
        return []
    (reference,) = references
    title = f'Differences from the flagship on {where}, {TITLES[reference.map]}'
    body, values = [], []
    for row in others:
        entries = [Entry(row.title)]
        for metric, (_, decimals) in _POSTER.items():
            differences = fold_differences(row, reference, metric)
            entries.append(Entry(_difference(differences, decimals)))
            values += [
                {'table': title, 'system': row.system, 'map': row.map, 'metric': metric}
                | {'fold': fold, 'difference': value}
                for fold, value in differences.items()
            ]
        body.append(entries)
    notes = [
        "Mean over folds of the difference of a fold's mean over test sections, with its 95 % "
        'interval (Student) where there are two folds and more; the folds in brackets.'
    ]
    header = ['system', *(name for name, _ in _POSTER.values())]
    return [Table(title, header, body, notes, values)]


def _difference(differences: Mapping[int, float], decimals: int) -> str:
    if not differences:
        return NO_RUN
    text = f'{fmean(differences.values()):+.{decimals}f}'
    if (half := interval(differences)) is not None:
        text += f' ± {half:.{decimals}f}'
    return f'{text} ({", ".join(map(str, sorted(differences)))})'


def _of_folds(folds: Sequence[int]) -> str:
    return f'fold{"s" * (len(folds) > 1)} {", ".join(map(str, folds))}'


def entry(cell: Cell, decimals: int) -> Entry:
    """The mean of a cell, with the deviation where there is one."""
    if cell.mean is None:
        return Entry(NO_RUN)
    return Entry(_score(cell.mean, cell.std, decimals), cell.best)


def _score(mean: float, std: float | None, decimals: int) -> str:
    text = f'{mean:.{decimals}f}'
    return text if std is None else f'{text} ± {std:.{decimals}f}'


def _behind(row: Row) -> str:
    return f'{len(row.results)} ({_of_folds(row.folds)})' if row.folds else '0'


def _duration(seconds: float) -> str:
    for unit, length in (('h', 3600), ('min', 60), ('s', 1)):
        if seconds >= length:
            return f'{seconds / length:.3g} {unit}'
    return f'{seconds * 1e3:.3g} ms'


def _values(title: str, rows: Iterable[Row]) -> list[dict[str, Any]]:
    return [
        {
            'table': title,
            'dataset': row.results[0]['dataset'] if row.results else '',
            'content': row.results[0]['content'] if row.results else '',
            'system': row.system,
            'row': row.title,
            'slices': row.slices,
            'map': row.map,
            'metric': metric,
            'mean': cell.mean,
            'std': cell.std,
            'folds': ' '.join(map(str, row.folds)),
            'runs': len(row.results),
            'updates': row.updates,
            'best': cell.best,
            'poster_mean': row.poster[metric].mean if metric in row.poster else None,
            'poster_std': row.poster[metric].std if metric in row.poster else None,
        }
        for row in rows
        for metric, cell in row.cells.items()
    ]
