"""What a reader has to know of a table, as lines below it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reproduction.comparison import Row
from reproduction.results import Result, run_of
from reproduction.systems import SYSTEMS
from taclnet_jax.metrics.maps import CLOSED_MAPS, TITLES

_ON_SETTINGS: dict[str, dict[Any, str]] = {
    'downsample': {2: 'Networks see half the resolution in y and x; scored is the whole.'},
    'evaluate.views': {
        4: 'P is the mean over the four flips of a section.',
        8: 'P is the mean over the eight flips and rotations of a section.',
    },
    'evaluate.threshold_from': {
        'training': 'Threshold of each run: lowest VOI on training sections.',
        'validation': 'Threshold of each run: lowest VOI on validation sections.',
        'fixed': 'Threshold: fixed.',
    },
}
_ON_CLOSING = {
    'training': 'Closing of each run: lowest VOI on training sections.',
    'validation': 'Closing of each run: lowest VOI on validation sections.',
    'fixed': 'Closing: half of the threshold.',
}


COMPARED = (
    "The poster's scores of DIVE, U-Net, Mosin. and TopoLoss are those of the TopoLoss paper (Hu "
    'et al. 2019): made by other code, under a protocol that the poster does not repeat.'
)

SHARED_RUNS = 'Of the folds and seeds that all rows have, so that rows compare.'
EPOCH_TIMES = (
    'Times per epoch are those of the runs, beside other work and on different processors; '
    'benchmarks/epoch.py has times that compare.'
)


def notes_below(rows: Sequence[Row]) -> list[str]:
    """The notes of a table of scores; none without a result."""
    results = list({run_of(r).key: r for row in rows for r in row.results}.values())
    if not results:
        return []
    notes = [
        'Mean ± sample standard deviation over folds of the mean over test sections; seeds of one '
        'fold are averaged first, and one fold has no deviation. Best in bold.'
    ]
    if len({result['updates'] for result in results}) > 1:
        notes.append('Folds and rows differ in the number of parameter updates, as listed.')
    for key, says in _ON_SETTINGS.items():
        notes += _on_setting(results, key, says)
    notes.append(f'Hardware: {"; ".join(sorted({result["hardware"] for result in results}))}.')
    for system in dict.fromkeys(row.system for row in rows):
        notes += _on_system(system, [r for r in results if r['system'] == system])
    return notes


def closing_notes(results: Sequence[Result]) -> list[str]:
    """How the closing of membranes was chosen."""
    notes = _on_setting(results, 'evaluate.threshold_from', _ON_CLOSING)
    several = len({result['seed'] for result in results}) > 1
    left = [
        f'{TITLES[name]}, of {SYSTEMS[result["system"]].title}, fold {result["fold"]}'
        + (f', seed {result["seed"]}' if several else '')
        for result in results
        for name in CLOSED_MAPS
        if result[name]['closing'] is None
    ]
    if left:
        notes.append(
            f'No closing lowered that VOI, so these are the maps as they were: {"; ".join(left)}.'
        )
    return [*notes, 'The poster closes no membranes.']


def sections_held_out(rows: Sequence[Row]) -> list[str]:
    """Where rows of different windows differ in the sections that choose the checkpoint."""
    held_out = {
        row.slices: sorted({result['config']['validation_sections'] for result in row.results})
        for row in rows
        if row.results
    }
    if len({number for numbers in held_out.values() for number in numbers}) < 2:
        return []
    said = ', '.join(f'{numbers[0]} with l = {n}' for n, numbers in held_out.items())
    return [f'Sections held out to choose the checkpoint: {said}; a window of l has to fit.']


def _on_setting(results: Iterable[Result], key: str, says: Mapping[Any, str]) -> list[str]:
    found = {result['config'][key] for result in results}
    return [text for value, text in says.items() if value in found]


def _on_system(system: str, results: Sequence[Result]) -> list[str]:
    if not results:
        return []
    title, settings, note = SYSTEMS[system][:3]
    notes = [note] if note else []
    random = any(not result['config']['perceptual_loss.vgg19'] for result in results)
    if settings['perceptual_loss.weight'] and random:
        notes.append(
            f'{title}: VGG19 has random weights, not those of ImageNet, as no file with them was '
            'named (perceptual_loss.vgg19).'
        )
    return notes
