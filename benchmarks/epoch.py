"""Time of a training epoch of CREMI's shape, for windows of 1, 3 and 5 sections.

    python -m benchmarks.epoch [--results=results]

The poster's table 3 gives 0.99, 1.20 and 2.78 hours for an epoch of 1328 windows of 156x156 on
CREMI. Here some steps of each kind are timed, in turns in one process, and multiplied. Loading
is not in it, as batches are made in the background (`benchmarks/loader.py` times that).
With --results the times go to a file there, which `reproduction` adds to table 3.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from pathlib import Path
from statistics import median

import taclnet_jax
from benchmarks.step import jax_step, training_of
from reproduction.poster import HOURS_PER_EPOCH
from taclnet_jax.cores import hardware
from taclnet_jax.files import write_text

WINDOWS, CROP = 1328, 156
SYSTEMS = {'ConvLSTM': 'none', 'ConvLSTM+STA': 'sta', 'TACLNet': 'ita'}


def measure(batch: int, repeats: int) -> dict[str, dict[int, float]]:
    """Seconds of an epoch by system and number of sections."""
    kinds = [(system, slices) for slices in HOURS_PER_EPOCH for system in SYSTEMS]
    times: dict[tuple[str, int], list[float]] = {kind: [] for kind in kinds}
    steps = {
        (system, slices): jax_step(training_of(SYSTEMS[system], slices, batch, CROP))
        for system, slices in kinds
    }
    for step in steps.values():
        step()  # compiles
    for _ in range(repeats):
        for kind, step in steps.items():
            start = time.perf_counter()
            step()
            times[kind].append(time.perf_counter() - start)
    of_epoch = math.ceil(WINDOWS / batch)
    return {
        system: {n: of_epoch * median(times[system, n]) for n in HOURS_PER_EPOCH}
        for system in SYSTEMS
    }


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
