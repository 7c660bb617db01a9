"""The models that come with the package: the flagship's networks, cards made of results/."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from ml_collections import ConfigDict

from reproduction.comparison import Row, fill_column
from reproduction.results import Result, read_results, schedule_of
from reproduction.systems import SLICES, Run, run_config
from reproduction.tables import entry
from taclnet_jax import metrics
from taclnet_jax.data import load_volume
from taclnet_jax.errors import InputError
from taclnet_jax.evaluation.card import format_card
from taclnet_jax.inference import Cut, Model, export, load
from taclnet_jax.main import train_and_evaluate
from taclnet_jax.metrics.maps import MAPS, TITLES
from taclnet_jax.training.setup import prepare

NAMES = {'isbi13': 'snemi3d'}
"""Of models, where it is not that of the data set."""

_DATA = {
    'isbi12': (
        'ISBI12, the training stack of the ISBI 2012 challenge: 30 sections of the nerve cord of a '
        'Drosophila larva (Cardona et al. 2010, doi:10.1371/journal.pbio.1000502; Arganda-Carreras '
        'et al. 2015, doi:10.3389/fnana.2015.00142, both to be cited). It is challenge data; no '
        'text of a licence was found.'
    ),
    'isbi13': (
        'SNEMI3D, the training volume of the ISBI 2013 challenge: 100 sections of mouse cortex '
        '(Kasthuri et al. 2015, doi:10.1016/j.cell.2015.06.054, to be cited; '
        'doi:10.5281/zenodo.7142003, CC-BY-4.0). What nobody labelled, such as myelin, was not '
        'trained on: there the maps mean nothing.'
    ),
}


def make_model(base: ConfigDict, fold: int, results: Path, workdir: Path, folder: Path) -> Path:
    """Trains the flagship where that was not done, and exports it.

    Thresholds and closings are medians of those of the runs in `results`: of the same fold, or of
    all where nothing was held out. So are the scores on its card.

    Args:
        base: the data set's configuration.
        fold: that its training does not see; 0 trains on all sections, for as many updates.
        results: folder of the runs' results.
        workdir: folder of the runs.
        folder: that gets the model, in a folder of its name.

    Raises:
        InputError: no such run has a result, or data and folders cannot be used.
    """
    dataset = base.dataset
    behind = results_behind(dataset, fold, results)
    run = Run(dataset, 'flagship', fold, behind[0]['seed'])
    config = run_config(base, run, schedule_of(behind) or {})
    if fold == 0:
        config.validation_sections = 0
        config.evaluate.threshold_from = 'training'  # there is nothing else, and it is not used
        _take_updates(config, median(result['updates'] for result in behind))
    place = workdir / run.key
    if not (place / 'results.json').exists():
        train_and_evaluate(config, place)
    model = load(place)
    cuts = {name: _median_cut(behind, name) for name in MAPS}
    resolution_nm = load_volume(model.settings.data).resolution_nm
    model = replace(model, chosen=cuts, resolution_nm=resolution_nm)
    target = folder / NAMES.get(dataset, dataset)
    folder.mkdir(parents=True, exist_ok=True)
    export(model, target, card(model, behind), overwrite=True)
    return target


def results_behind(dataset: str, fold: int, results: Path) -> list[Result]:
    """The flagship's results that stand for a model: those of its fold, or all for fold 0.

    Runs with another number of sections in a window are of other networks.

    Raises:
        InputError: there is none.
    """
    found = [
        result
        for result in read_results(results)
        if (result['dataset'], result['system'], result['slices']) == (dataset, 'flagship', SLICES)
        and fold in (0, result['fold'])
    ]
    if not found:
        raise InputError(
            f'Expected results of the flagship on {dataset} in {results}, found none; make them '
            f'with --table=1 --dataset={dataset} --systems=flagship.'
        )
    return found


def card(model: Model, behind: Sequence[Result]) -> str:
    """The card of a model that comes with the package, with the scores of results."""
    dataset, fold = model.settings.data.dataset, model.settings.sampling.fold
    data = f'{_DATA.get(dataset, dataset)} {_held_out(fold, behind)}'
    name = NAMES.get(dataset, dataset)
    return format_card(model, name, name, data, _table(behind))


def _take_updates(config: ConfigDict, updates: float) -> None:
    """Both phases get as many epochs as give so many updates; epochs of more sections have more."""
    training = prepare(config)
    share = updates / training.steps
    for phase in (config.phase_one, config.phase_two):
        phase.epochs = round(phase.epochs * share)


def _median_cut(results: Sequence[Result], name: str) -> Cut:
    closings = [result[name]['closing'] for result in results]
    threshold = median(result[name]['threshold'] for result in results)
    return Cut(threshold, None if None in closings else median(closings))


def _held_out(fold: int, results: Sequence[Result]) -> str:
    if fold == 0:
        folds = sorted({str(result['fold']) for result in results})
        behind = (
            f'a network of the same settings, trained without fold {folds[0]} and scored there. '
            'This model has its thresholds.'
            if len(results) == 1
            else f'networks of the same settings, each trained without one fold '
            f'({", ".join(folds)}) and scored there, at thresholds of its own. This model has '
            'their medians, which the table lists.'
        )
        return (
            'All sections were trained on, and nothing was held out: the scores below are of '
            + behind
        )
    first, last = results[0]['sections'][0], results[0]['sections'][-1]
    chosen = results[0]['config']['validation_sections']
    return (
        f'Sections {first} to {last} were held out and give the scores below; {chosen} more chose '
        'checkpoint, thresholds and closing.'
    )


def _table(results: Sequence[Result]) -> str:
    """Means over folds for each map, as Markdown."""
    lines = [
        f'| map | threshold | closing | {" | ".join(metrics.COLUMNS[n] for n in metrics.MAIN)} |',
        '|---' * (3 + len(metrics.MAIN)) + '|',
    ]
    for name in MAPS:
        row = Row(TITLES[name], 'flagship', results[0]['slices'], name, [*results])
        for metric in metrics.MAIN:
            fill_column([row], metric)
        cells = [entry(row.cells[metric], 4).text for metric in metrics.MAIN]
        threshold, closing = _median_cut(results, name)
        closed = '' if closing is None else f'{closing:.3g}'
        lines.append(f'| {TITLES[name]} | {threshold:.3g} | {closed} | {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'
