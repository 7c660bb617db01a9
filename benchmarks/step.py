"""One training step: plain ConvLSTM, with STA and ITA, and the plain one in PyTorch.

    python -m benchmarks.step            (PyTorch: pip install -e '.[benchmark]')

All three take turns in one process, on the same cores, so that the ratios mean something.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from taclnet_jax.config import get_config
from taclnet_jax.data.volume import Volume
from taclnet_jax.training import parallel
from taclnet_jax.training.setup import Training, prepare
from taclnet_jax.training.step import Step


def training_of(
    kind: str, slices: int, batch: int, crop: int, volume: Volume | None = None, **changes: Any
) -> Training:
    """A training with `kind` of attention on the synthetic volume.

    Args:
        kind: of `config.attention.kind`.
        slices, batch, crop: shape of a batch.
        volume: another one that has as many crops.
        **changes: further settings, with two underscores for dots.
    """
    config = get_config()
    config.attention.kind = kind
    config.slices, config.batch_size, config.crop = slices, batch, (crop, crop)
    # One crop a section; fold 3 trains on two thirds of them.
    config.validation_sections = 0
    config.synthetic.shape = (max(3 * batch // 2 + 1, 3 * slices), crop, crop)
    config.update_from_flattened_dict({k.replace('__', '.'): v for k, v in changes.items()})
    return prepare(config, volume)


def jax_step(training: Training, step: Step | None = None) -> Callable[[], None]:
    """A step of phase two as a function that waits for its end; its batch is on the devices.

    Args:
        training: whose.
        step: compiled already.
    """
    step = step or training.create_step(phase_two=True)
    state, batch = [training.new.to_devices()], parallel.shard(training.loader.batch(0, 0))

    def run() -> None:
        state[0], output = step(state[0], batch)
        jax.block_until_ready(output)

    return run


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--slices', type=int, default=3)
    parser.add_argument('--batch', type=int, default=10)
    parser.add_argument('--crop', type=int, default=156)
    parser.add_argument('--repeats', type=int, default=15)
    args = parser.parse_args()
    trainings = {
        name: training_of(kind, args.slices, args.batch, args.crop)
        for name, kind in (
            ('ConvLSTM', 'none'),
            ('ConvLSTM + STA', 'sta'),
            ('TACLNet (STA and ITA)', 'ita'),
        )
    }
    steps = {name: jax_step(training) for name, training in trainings.items()}
    try:
        from benchmarks.torch_networks import torch_step

        steps['ConvLSTM in PyTorch'] = torch_step(trainings['ConvLSTM'].loader.batch(0, 0))
    except ImportError:
        print('PyTorch is not installed; its row is left out.')
    for step in steps.values():
        step()  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(args.repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    plain = np.median(seconds['ConvLSTM'])
    print(f'\n{args.batch} windows of {args.slices} x {args.crop} x {args.crop}, {jax.devices()}')
    print('| step | median ms | fastest ms | median / plain |\n|---|---|---|---|')
    for name, values in seconds.items():
        median, fastest = np.median(values) * 1e3, min(values) * 1e3
        print(f'| {name} | {median:.0f} | {fastest:.0f} | {median / plain / 1e3:.2f} |')


if __name__ == '__main__':
    main()
