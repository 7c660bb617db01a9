"""The poster's tables and figures: trains what is missing, and writes them.

  tables     trains and scores the systems of a table that have no result yet, one after the other,
             then writes and prints the table. The same command goes on where it was stopped.
                 python -m reproduction --table=1 --dataset=isbi12
             Table 1 compares all systems, table 2 a network with STA and with STA and ITA, table
             3 windows of 1, 3 and 5 sections.
  budget     with --budget=MINUTES one number of epochs is chosen for all runs, so that those that
             are missing fit into the time. Where the folder of results has runs of the data set,
             their number is taken. When the time is over no further run is started.
                 python -m reproduction --table=2 --dataset=isbi12 --budget=360
  jobs       with --jobs=2 two runs are made at a time, in processes that divide the cores, or a
             GPU's memory, among them. What shares a phase one waits for the run that makes it.
                 python -m reproduction --table=1 --dataset=isbi12 --jobs=2
  rewriting  tables from the files in --results alone, without training.
                 python -m reproduction --only-tables
  models     with --model the flagship is trained on all sections, for as many updates as the runs
             of the folds, and put into taclnet_jax/pretrained, to be handed out with the package.
                 python -m reproduction --model --dataset=isbi12
  figures    from the networks of the runs in --workdir: 4 (segmentations of the systems), 5
             (attention on a section), 1 (attention over epochs with and without ITA).
                 python -m reproduction --figure=4 --dataset=isbi12

Every finished run leaves a file in --results, such as isbi12_taclnet_fold3_seed0_slices3.json, and
tables are made from these files alone, wherever they were computed. The systems are defined in
reproduction/systems.py, as differences from configs/<dataset>.py.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from reproduction.systems import BACKBONES, DATASETS, SYSTEMS
from taclnet_jax import commandline
from taclnet_jax.config.schema import MOST
from taclnet_jax.config.shipped import read_config_file
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import local_folder

_TABLE = flags.DEFINE_integer('table', None, '1, 2 or 3. With --only-tables all, if not given.')
_FIGURE = flags.DEFINE_integer('figure', None, '1, 4 or 5, instead of a table.')
_DATASET = flags.DEFINE_string(
    'dataset', None, f'{", ".join(DATASETS)}. With --only-tables all that have results.'
)
_BUDGET = flags.DEFINE_float('budget', None, 'Minutes to divide over the runs that are missing.')
_JOBS = flags.DEFINE_integer('jobs', 1, 'Runs that are made at a time, each in a process.')
_MODEL = flags.DEFINE_bool('model', False, 'Make a model to hand out, instead of a table.')
_FOLDS = flags.DEFINE_list(
    'folds',
    None,
    '3,1,2 in this order if not given; a figure takes one, and a model the one it does not see: 0, '
    'for none, if not given.',
)
_SEEDS = flags.DEFINE_list('seeds', None, 'Seeds; 0 if not given, and 0,1,2 for table 2.')
_SYSTEMS = flags.DEFINE_list(
    'systems', None, f'Those of the table or figure if not given. There are {", ".join(SYSTEMS)}.'
)
_SECTION = flags.DEFINE_integer(
    'section', None, 'Of a figure; the middle one of those that are scored if not given.'
)
_RESULTS = flags.DEFINE_string('results', 'results', 'Folder of results, tables and figures.')
_WORKDIR = flags.DEFINE_string('workdir', 'runs/reproduce', 'Folder of the runs.')
_ONLY_TABLES = flags.DEFINE_bool('only-tables', False, 'Train nothing.')
_CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'Base configuration instead of configs/<dataset>.py.'
)


_SHOWN = [
    _TABLE,
    _DATASET,
    _BUDGET,
    _JOBS,
    _FOLDS,
    _SEEDS,
    _SYSTEMS,
    _RESULTS,
    _WORKDIR,
    _ONLY_TABLES,
    _FIGURE,
    _MODEL,
    _SECTION,
    _CONFIG,
]
_TAKEN = {
    'table': ['dataset', 'budget', 'jobs', 'folds', 'seeds', 'systems', 'results', 'workdir']
    + ['config'],
    'figure': ['dataset', 'folds', 'seeds', 'systems', 'section', 'results', 'workdir', 'config'],
    'model': ['dataset', 'folds', 'results', 'workdir', 'config'],
    'only-tables': ['table', 'dataset', 'results'],
}
"""What is made, and the flags that say how."""


def main() -> None:
    """Makes one table or figure; see the module's docstring."""
    _check_flags()
    results = local_folder(_RESULTS.value, '--results')
    workdir = local_folder(_WORKDIR.value, '--workdir')
    table, figure, dataset = _TABLE.value, _FIGURE.value, _DATASET.value
    if _ONLY_TABLES.value or dataset is None:
        _write_tables(results, [table] if table else [1, 2, 3], dataset)
        return
    base = _CONFIG.value or read_config_file(dataset)
    if base.dataset != dataset:
        raise InputError(
            f'Expected --config to be of the data set {dataset}, found one of {base.dataset}.'
        )
    folds = _folds() or ([0] if _MODEL.value else [3, 1, 2])
    seeds = _seeds() or ([0, 1, 2] if table == 2 else [0])
    if _MODEL.value:
        from reproduction.models import make_model
        from taclnet_jax.models.exported import SHIPPED

        print(f'Model: {make_model(base, folds[0], results, workdir, SHIPPED)}')
        return
    if figure is not None:
        from reproduction.figures import make_figure

        path = make_figure(
            figure, base, _systems(), folds[0], seeds[0], _SECTION.value, workdir, results
        )
        print(f'Figure: {path}')
        return
    assert table is not None  # or a figure: _check_flags
    # Imported late: JAX and its company take seconds that --help and mistakes need not wait for.
    from reproduction.runs import Reproduction, planned_runs

    runs = planned_runs(table, dataset, _systems(), folds, seeds)
    failed = Reproduction(base, results, workdir).make(runs, _BUDGET.value, _JOBS.value)
    _write_tables(results, [table], dataset)
    if failed:
        sys.exit(1)


def _write_tables(folder: Path, numbers: Sequence[int], dataset: str | None) -> None:
    from reproduction.results import read_epoch_times, read_results
    from reproduction.table_formats import markdown, table_files
    from reproduction.tables import make_tables
    from taclnet_jax.files import write_text

    results, epoch_times = read_results(folder), read_epoch_times(folder)
    datasets = [dataset] if dataset else sorted({result['dataset'] for result in results})
    if not datasets:
        raise InputError(
            f'Expected results of runs in {folder}, found none. Make some with '
            '--table=1 --dataset=isbi12.'
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in datasets:
        for number in numbers:
            tables = make_tables(number, name, results, epoch_times)
            print(markdown(tables))
            print('Written:')
            for file, text in table_files(number, name, tables).items():
                write_text(folder / file, text)
                print(f'  {folder / file}')


def _check_flags() -> None:
    made = _made()
    commandline.check_taken(f'--{made}', [made, *_TAKEN[made]], _SHOWN)
    for name, flag, allowed in (('table', _TABLE, (1, 2, 3)), ('figure', _FIGURE, (1, 4, 5))):
        if flag.value is not None and flag.value not in allowed:
            choices = ', '.join(map(str, allowed))
            raise InputError(f'Expected --{name} to be one of {choices}; found {flag.value}.')
    if made != 'only-tables' and _DATASET.value is None:
        raise InputError(f'Expected --dataset, one of {", ".join(DATASETS)}.')
    if _DATASET.value is not None and _DATASET.value not in DATASETS:
        raise InputError(
            f'Expected --dataset to be one of {", ".join(DATASETS)}; found {_DATASET.value!r}.'
        )
    if _BUDGET.value is not None and not 0 < _BUDGET.value < math.inf:
        raise InputError(f'Expected --budget to be above 0 minutes; found {_BUDGET.value:g}.')
    if _JOBS.value < 1:
        raise InputError(f'Expected --jobs to be at least 1; found {_JOBS.value}.')
    for name, values in (('folds', _folds()), ('seeds', _seeds())):
        if made in ('figure', 'model') and len(values or ()) > 1:
            raise InputError(
                f'Expected one number as --{name} of a {made}; found {", ".join(map(str, values))}.'
            )
    if _FIGURE.value == 1 and _SECTION.value is not None:
        raise InputError('Expected --section with figures 4 and 5 alone; found it with 1.')
    compared = [name for names in BACKBONES.values() for name in names]
    others = sorted(set(_systems() or ()) - set(compared))
    if _TABLE.value == 2 and others:
        raise InputError(
            f'Expected --systems of table 2 out of {", ".join(compared)}; found '
            f'{", ".join(others)}.'
        )


def _made() -> str:
    """Which of `_TAKEN` the flags ask for."""
    if _ONLY_TABLES.value:
        return 'only-tables'
    asked = {'table': _TABLE.value is not None, 'figure': _FIGURE.value is not None}
    found = [name for name, given in (asked | {'model': _MODEL.value}).items() if given]
    if len(found) != 1:
        raise InputError('Expected either --table, --figure or --model. See --help.')
    return found[0]


def _systems() -> list[str] | None:
    if _SYSTEMS.value is None:
        return None
    for name in _SYSTEMS.value or ['']:
        if name not in SYSTEMS:
            raise InputError(f'Expected --systems out of {", ".join(SYSTEMS)}; found {name!r}.')
    return list(dict.fromkeys(_SYSTEMS.value))


def _folds() -> list[int] | None:
    return _numbers(_FOLDS, 0 if _MODEL.value else 1, 3)


def _seeds() -> list[int] | None:
    return _numbers(_SEEDS, 0, MOST)


def _numbers(flag: flags.FlagHolder[list[str] | None], low: int, high: int) -> list[int] | None:
    """Those of a list, each once; None if it was not given."""
    if flag.value is None:
        return None
    if not flag.value or not all(
        text.isdecimal() and len(text) <= len(str(high)) and low <= int(text) <= high
        for text in flag.value
    ):
        raise InputError(
            f'Expected --{flag.name} from {low} to {high}, separated by commas; found '
            f'{",".join(flag.value)!r}.'
        )
    return list(dict.fromkeys(map(int, flag.value)))


if __name__ == '__main__':
    commandline.run(main, __doc__, _SHOWN)
