"""Which network and training are the best: variants at equal time, judged on three rotations.

    TACLNET_DATA_DIR=/data python -m benchmarks.screening --minutes=15 --workdir=runs/screening

Sections 20-29 of ISBI12, on which fold 3 is scored, are left alone. Of sections 0-19 each rotation
holds out a third to judge on and trains on the others, which choose the cuts too: one change at a
time, without attention in training, one view. What a step of each variant takes is measured first,
once, and kept, so that all have the same time whatever else the machine does later; for this minute
nothing else should run on it. Runs that are there are not made again, and one that was stopped goes
on.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from taclnet_jax.commandline import allow_callbacks, with_messages
from taclnet_jax.config import flagship_config
from taclnet_jax.files import write_text
from taclnet_jax.metrics.maps import CLOSED_MAPS

SECTIONS = (0, 20)
ROTATIONS = (1, 2, 3)
SCORES = ('ari', 'voi', 'betti_error', 'dice')

BASE: dict[str, Any] = {
    'model.name': 'recurrent_unet',
    'model.features': (),
    'model.normalise': False,
    'model.iterations': 0,
    'augment.elastic': 0.0,
    'phase_one.learning_rate': 3e-3,
    'attention.kind': 'none',
    'phase_two.epochs': 0,
    'sections': SECTIONS,
    'validation_sections': 0,
    'evaluate.threshold_from': 'training',
    'evaluate.views': 1,
}
_CONFIG = flagship_config()
_FLAGSHIP: dict[str, Any] = {
    'model.normalise': _CONFIG.model.normalise,
    'model.iterations': _CONFIG.model.iterations,
    'model.features': _CONFIG.model.features,
    'augment.elastic': _CONFIG.augment.elastic,
}
VARIANTS: dict[str, dict[str, Any]] = {
    'base': {},
    'unet': {'model.name': 'unet'},
    'normalised': {'model.normalise': True},
    'normalised U-Net': {'model.normalise': True, 'model.name': 'unet'},
    'normalised, elastic': {'model.normalise': True, 'augment.elastic': 0.5},
    'normalised, averaged': {'model.normalise': True, 'optimizer.average': 0.98},
    'normalised, soft Dice loss': {'model.normalise': True, 'loss': 'cross_entropy_dice'},
    'two iterations': {'model.iterations': 2},
    'normalised, two iterations': {'model.normalise': True, 'model.iterations': 2},
    'flagship': _FLAGSHIP,
    'flagship, averaged': _FLAGSHIP | {'optimizer.average': 0.98},
    'flagship, soft Dice loss': _FLAGSHIP | {'loss': 'cross_entropy_dice'},
    'flagship, two windows': _FLAGSHIP | {'batch_size': 2},
    'flagship, rate of 1e-2': _FLAGSHIP | {'phase_one.learning_rate': 1e-2},
    'normalised, one section': {'model.normalise': True, 'slices': 1},
    'normalised, five levels': {'model.normalise': True, 'model.features': (16, 32, 64, 96, 128)},
    'normalised, wide': {'model.normalise': True, 'model.features': (24, 48, 96, 144)},
    'normalised, full resolution': {
        'model.normalise': True,
        'model.features': (16, 32, 64, 96, 128),
        'downsample': 1,
        'crop': (256, 256),
    },
}
"""By name: what each changes of `BASE`, which changes what it says of configs/isbi12.py."""


def configured(variant: str, rotation: int) -> Any:
    """The configuration of a run but for its epochs."""
    from taclnet_jax.config.shipped import read_config_file

    config = read_config_file('isbi12')
    config.update_from_flattened_dict(BASE | VARIANTS[variant])
    config.fold = rotation
    return config


def steps(variants: Sequence[str], path: Path) -> dict[str, float]:
    """Seconds of a training step of each variant, measured where the file does not say."""
    known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    for variant in variants:
        if variant not in known:
            from reproduction.budget import time_steps
            from taclnet_jax.training.setup import prepare

            training = prepare(configured(variant, ROTATIONS[0]))
            step = training.create_step(phase_two=False)
            _, known[variant] = time_steps(step, training.new, training.loader.batch(0, 0))
            print(f'{variant}: {known[variant]:.2f} s a step', flush=True)
            write_text(path, json.dumps(known, indent=2) + '\n')
    return known


def scored(config: Any, updates: float, folder: Path) -> dict[str, Any]:
    """The result of a run, which is made where it is not there."""
    path = folder / 'results.json'
    if not path.exists():
        make(config, updates, folder)
    results = json.loads(path.read_text())
    # Without validation sections it is the last checkpoint that is scored.
    return {'updates': results['step'], **{name: results[name]['mean'] for name in CLOSED_MAPS}}


def make(config: Any, updates: float, folder: Path) -> None:
    """Trains for about so many updates, in whole epochs, and evaluates."""
    from taclnet_jax.main import train_and_evaluate
    from taclnet_jax.training.setup import prepare

    per_epoch = prepare(config).loader.steps_per_epoch
    config.phase_one.epochs = max(round(updates / per_epoch), 1)
    train_and_evaluate(config, folder)


def main() -> None:
    """Makes what is missing, and prints the table after each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--minutes', type=float, default=15, help='of training, for each run')
    parser.add_argument('--workdir', type=Path, default=Path('runs/screening'))
    parser.add_argument('--variants', nargs='+', default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument('--rotations', nargs='+', type=int, default=ROTATIONS, choices=ROTATIONS)
    parser.add_argument('--core', type=int, help='the one to use')
    args = parser.parse_args()
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    allow_callbacks()
    seconds = steps(args.variants, args.workdir / 'steps.json')
    results: dict[str, dict[int, dict[str, Any]]] = {}
    for rotation in args.rotations:
        for variant in args.variants:
            folder = args.workdir / f'{variant.replace(", ", "_").replace(" ", "_")}_{rotation}'
            updates = 60 * args.minutes / seconds[variant]
            found = scored(configured(variant, rotation), updates, folder)
            results.setdefault(variant, {})[rotation] = found
            print(table(results, args.minutes), flush=True)


def table(results: dict[str, dict[int, dict[str, Any]]], minutes: float) -> str:
    """Means over the rotations that there are."""
    titles = [f'{score} {name.split("_closed")[0]}' for name in CLOSED_MAPS for score in SCORES]
    lines = [
        f'{minutes:g} minutes of one core each',
        '',
        '| variant | rotations | updates | ' + ' | '.join(titles) + ' |',
        '|---' * (3 + len(titles)) + '|',
    ]
    for variant, runs in results.items():
        updates = '-'.join(str(n) for n in sorted({run['updates'] for run in runs.values()}))
        cells = [
            f'{mean(run[name][score] for run in runs.values()):.3f}'
            for name in CLOSED_MAPS
            for score in SCORES
        ]
        lines.append(
            f'| {variant} | {",".join(map(str, runs))} | {updates} | ' + ' | '.join(cells) + ' |'
        )
    return '\n'.join(lines)


if __name__ == '__main__':
    with_messages(main)
