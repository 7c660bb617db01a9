"""Which learning rate suits a system: the validation loss after a few epochs at each.

    TACLNET_DATA_DIR=/data python -m benchmarks.rates --systems unet mosinska --rates 1e-3 3e-3

Each trains on the training sections of a fold of ISBI12, the rate going down to zero along a
cosine, and is judged by the cross-entropy on its validation sections; the sections that the fold
scores are left alone. Runs that are there are not made again, and one that was stopped goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from taclnet_jax.commandline import allow_callbacks, with_messages


def configured(run: Any, rate: float, epochs: int) -> Any:
    """The configuration of a system's run, at another rate and for so many epochs."""
    from reproduction.systems import run_config
    from taclnet_jax.config.shipped import read_config_file

    config = run_config(read_config_file('isbi12'), run, {})
    config.phase_one.learning_rate = rate
    config.phase_one.epochs = config.evaluate.every_epochs = epochs
    config.phase_two.epochs = 0
    config.augment.elastic = 0.0
    return config


def validation_loss(config: Any, folder: Path) -> float:
    """Trains, where that was not done, and returns the loss of the last validation."""
    from taclnet_jax.config import run_settings
    from taclnet_jax.main import create_validation
    from taclnet_jax.training.loop import train
    from taclnet_jax.training.reporting import read_metrics
    from taclnet_jax.training.setup import prepare

    training = prepare(run_settings(config))
    train(training, folder, create_validation(training))
    loss: float = read_metrics(folder / 'metrics.jsonl')[-1]['validation/loss']
    return loss


def main() -> None:
    """Prints a row of the table for each system and number of sections."""
    allow_callbacks()
    from reproduction.systems import SYSTEMS, Run

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--systems', nargs='+', default=['flagship'], choices=list(SYSTEMS))
    parser.add_argument('--slices', nargs='+', type=int, default=[3], help='sections in a window')
    parser.add_argument('--rates', nargs='+', type=float, default=[1e-3, 3e-3, 1e-2])
    parser.add_argument('--epochs', type=int, default=8)
    parser.add_argument('--fold', type=int, default=3, choices=(1, 2, 3))
    parser.add_argument('--workdir', type=Path, default=Path('runs/rates'))
    args = parser.parse_args()
    rows = []
    for name in args.systems:
        for slices in args.slices:
            run = Run('isbi12', name, args.fold, 0, slices)
            losses = []
            for rate in args.rates:
                config = configured(run, rate, args.epochs)
                losses.append(validation_loss(config, args.workdir / f'{run.key}_rate{rate:g}'))
            cells = ' | '.join(f'{loss:.4f}' for loss in losses)
            rows.append(f'| {SYSTEMS[name].title} | {slices} | {cells} |')
            print(rows[-1], flush=True)
    print(f'\n| system | sections | {" | ".join(f"{rate:g}" for rate in args.rates)} |')
    print('|---' * (2 + len(args.rates)) + '|')
    print('\n'.join(rows))


if __name__ == '__main__':
    with_messages(main)
