"""Peak memory of training, here and in PyTorch, by network, sections and batch.

    python -m benchmarks.memory            (PyTorch: pip install -e '.[benchmark]')

Each is a process of its own that takes some training steps in float32, on windows of 156x156; what
counts is the most that it holds after the first one, which compiles, beyond what it held before it,
with everything loaded and a batch made. What compiling took is given back to the system first, as
training does here; so it is for PyTorch, which does not do so itself. Linux only.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from typing import Any

from benchmarks import resident
from benchmarks.step import COLUMNS, cases, jax_step, training_of
from taclnet_jax import memory
from taclnet_jax.commandline import allow_callbacks

STEPS = 4


def peak_mib(case: tuple[str, str, int, dict[str, Any]], way: str, batch: int, crop: int) -> float:
    """MiB beyond those before the first step; run in a process of its own."""
    _, network, slices, settings = case
    kind = way if way in ('sta', 'ita') else 'none'
    training = training_of(kind, slices, batch, crop, **settings)
    step: Callable[[], None]
    if way in ('ours', 'sta', 'ita'):
        step = jax_step(training)
    else:
        from benchmarks.torch_networks import torch_step

        step = torch_step(training.loader.batch(0, 0), network, compiled=way == 'compiled')
    before = resident.now()
    step()  # compiles, which takes memory that is not training's
    memory.give_back()
    resident.forget_peak()
    for _ in range(STEPS):
        step()
    return resident.peak() - before


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--slices', type=int, nargs='+', default=[1, 3, 5])
    parser.add_argument('--batches', type=int, nargs='+', default=[4, 10])
    parser.add_argument('--crop', type=int, default=156)
    args = parser.parse_args()
    print('| peak, MiB | batch | ' + ' | '.join(COLUMNS.values()) + ' |')
    print('|---' * (len(COLUMNS) + 2) + '|')
    processes = multiprocessing.get_context('spawn')
    for case in cases(args.slices):
        for batch in args.batches:
            cells = []
            for way in COLUMNS:
                if way in ('sta', 'ita') and case[1] != 'convlstm':
                    cells.append('')
                    continue
                with processes.Pool(1) as pool:
                    try:
                        cells.append(f'{pool.apply(peak_mib, (case, way, batch, args.crop)):.0f}')
                    except ImportError:
                        cells.append('')
            print(f'| {case[0]} | {batch} | ' + ' | '.join(cells) + ' |', flush=True)


if __name__ == '__main__':
    allow_callbacks()
    main()
