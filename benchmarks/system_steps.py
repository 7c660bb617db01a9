"""What a training step of each compared system takes, in steps of the flagship.

    TACLNET_DATA_DIR=/data python -m benchmarks.system_steps --core=0

The ratios are `System.cost` in reproduction/systems.py, by which all systems get the same time of
one core. Steps of the systems are timed in turn, in CPU time of this process, so that what else the
machine does matters little.
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import median

from taclnet_jax.commandline import allow_callbacks, with_messages


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rounds', type=int, default=5, help='steps that are timed, of each')
    parser.add_argument('--core', type=int, help='the one to use')
    args = parser.parse_args()
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    allow_callbacks()

    import jax

    from reproduction.systems import SYSTEMS, Run, run_config
    from taclnet_jax.config import run_settings
    from taclnet_jax.config.shipped import read_config_file
    from taclnet_jax.data import load_volume
    from taclnet_jax.training import parallel
    from taclnet_jax.training.setup import prepare

    base = read_config_file('isbi12')
    volume = load_volume(run_settings(base).data)
    steps = {}
    for name in SYSTEMS:
        training = prepare(run_config(base, Run('isbi12', name, 3, 0), {}), volume)
        batch = training.loader.batch(0, 0)
        for phase in (1, 2):
            steps[name, phase] = [
                training.create_step(phase == 2),
                training.new.to_devices(),
                batch,
            ]
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in steps}
    for _ in range(args.rounds + 1):  # the first one compiles
        for key, (step, state, batch) in steps.items():
            start = time.process_time()
            steps[key][1], output = step(state, parallel.shard(batch))
            jax.block_until_ready((steps[key][1], output))
            seconds[key].append(time.process_time() - start)
    took = {key: median(times[1:]) for key, times in seconds.items()}
    units = {phase: took['flagship', phase] for phase in (1, 2)}
    print(f'A step of the flagship takes {units[1]:.2f} and {units[2]:.2f} s of one core.\n')
    print('| system | phase one | phase two |\n|---|---|---|')
    for name, system in SYSTEMS.items():
        cells = ' | '.join(f'{took[name, phase] / units[phase]:.2f}' for phase in (1, 2))
        print(f'| {system.title} | {cells} |')


if __name__ == '__main__':
    with_messages(main)
