"""Time of a training epoch of CREMI's shape, for windows of 1, 3 and 5 sections.

    python -m benchmarks.epoch [--results=results]

The poster's table 3 gives 0.99, 1.20 and 2.78 hours for an epoch of 1328 windows of 156x156 on
CREMI. Here some steps of each kind are timed, those of a network and number of sections in
turns, and multiplied; the flagship's without attention, as it is trained. Loading is not in it, as
batches are made in the background (`benchmarks/loader.py` times that).
With --results the times go to a file there, which `reproduction` adds to table 3.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path

import taclnet_jax
from benchmarks.on_device import network_settings
from benchmarks.step import jax_step, seconds_in_turn, training_of
from reproduction.poster import HOURS_PER_EPOCH
from taclnet_jax.cores import hardware
from taclnet_jax.files import write_text

WINDOWS, CROP = 1328, 156
SYSTEMS = {
    'convlstm': {'ConvLSTM': 'none', 'ConvLSTM+STA': 'sta', 'TACLNet': 'ita'},
    'flagship': {'flagship': 'none'},
}
"""By network: systems and their kind of attention."""


def measure(batch: int, repeats: int) -> dict[str, dict[int, float]]:
    """Seconds of an epoch by system and number of sections."""
    of_epoch = math.ceil(WINDOWS / batch)
    found: dict[str, dict[int, float]] = {}
    for network, systems in SYSTEMS.items():
        settings = network_settings(network, quick=False)
        # In turns of like size: after a large step the kernel takes back its memory for a while.
        for slices in HOURS_PER_EPOCH:
            steps = {
                system: jax_step(training_of(attention, slices, batch, CROP, **settings))
                for system, attention in systems.items()
            }
            for system, seconds in seconds_in_turn(steps, repeats).items():
                found.setdefault(system, {})[slices] = of_epoch * seconds
    return found


def main() -> None:
    """Prints the table, and writes the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--batch', type=int, default=10)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--results', type=Path, help='folder of results')
    args = parser.parse_args()
    seconds = measure(args.batch, args.repeats)
    print(f'\n{WINDOWS} windows of {CROP}x{CROP}, batches of {args.batch}, {hardware()}')
    header = ['hours per epoch', *(f'l = {n}' for n in HOURS_PER_EPOCH), 'l = 5 / l = 1']
    print('| ' + ' | '.join(header) + ' |\n' + '|---' * len(header) + '|')
    poster = {n: 3600 * hours for n, hours in HOURS_PER_EPOCH.items()}
    for system, of_slices in {'poster': poster, **seconds}.items():
        hours = ' | '.join(f'{of_slices[n] / 3600:.4f}' for n in HOURS_PER_EPOCH)
        print(f'| {system} | {hours} | {of_slices[5] / of_slices[1]:.2f} |')
    ratios = ', '.join(
        f'{poster[n] / seconds["TACLNet"][n]:.0f} (l = {n})' for n in HOURS_PER_EPOCH
    )
    print(f'\nTACLNet here is faster than the poster by {ratios} times.')
    if args.results:
        name = re.sub(r'[^A-Za-z0-9]+', '_', hardware()).strip('_')
        folder = args.results / 'epoch_time'
        folder.mkdir(parents=True, exist_ok=True)
        record = {
            'hardware': hardware(),
            'version': taclnet_jax.__version__,
            'windows': WINDOWS,
            'crop': [CROP, CROP],
            'batch': args.batch,
            'seconds': {
                system: {str(n): float(f'{value:.5g}') for n, value in of_slices.items()}
                for system, of_slices in seconds.items()
            },
        }
        write_text(folder / f'{name}.json', json.dumps(record, indent=1) + '\n')
        print(f'Written: {folder / name}.json')


if __name__ == '__main__':
    main()
