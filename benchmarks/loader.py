"""How many windows the loader makes, and how long training waits for them.

    TACLNET_DATA_DIR=/data python -m benchmarks.loader

Windows a second of the default configuration, with no augmentation, with the default ones, and with
every one of them in every window, the batches made ahead by threads and thrown away; then the share
of a training step (phase one of the default network, on this machine's devices) that is spent
waiting for a batch. Volumes are the synthetic one in memory, the same read from a zarr on disk for
each crop (nothing is kept, but the operating system keeps the file), and ISBI12 and ISBI13 where
TACLNET_DATA_DIR has them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from taclnet_jax.config import get_config, run_settings
from taclnet_jax.config.data import AugmentSettings
from taclnet_jax.config.settings import RunSettings
from taclnet_jax.data import load_volume
from taclnet_jax.data.augmentation import FAULTS
from taclnet_jax.data.loader import WORKERS, WindowLoader
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import grid_samples
from taclnet_jax.tools.synthesize import synthesize
from taclnet_jax.training.loop import train_epoch
from taclnet_jax.training.setup import Training, prepare
from taclnet_jax.training.watch import Watch


def volumes(folder: Path, shape: tuple[int, int, int]) -> Iterator[tuple[str, Volume]]:
    """Those that are there, by name."""

    def load(config: ConfigDict) -> Volume:
        return load_volume(run_settings(config).data)

    config = get_config()
    config.synthetic.shape = shape
    yield 'synthetic, in memory', load(config)
    stored = synthesize('zarr3', folder, shape=shape).paths
    config = get_config()
    config.dataset, config.cache_mb = 'custom', 0
    config.custom.image, config.custom.labels = (str(path) for path in stored)
    yield 'synthetic, zarr', load(config)
    if os.environ.get('TACLNET_DATA_DIR'):
        for name in ('isbi12', 'isbi13'):
            config = get_config()
            config.dataset, config.prepared_dir = name, str(folder / 'prepared')
            yield name, load(config)


def augmentations() -> dict[str, AugmentSettings]:
    """By name: off, default, all on."""
    default = RunSettings().sampling.augment
    everything = replace(default, **dict.fromkeys(FAULTS, 1.0))
    return {'off': AugmentSettings(), 'default': default, 'all on': everything}


def windows_per_second(loader: WindowLoader, seconds: float) -> float:
    """Of batches made ahead, after one epoch that fills the caches."""
    with loader.epoch(0, displace=True) as batches:
        for _ in batches:
            pass
    made, epoch, start = 0, 1, time.perf_counter()
    while time.perf_counter() < start + seconds:
        with loader.epoch(epoch, displace=True) as batches:
            made += sum(len(batch['sample_id']) for batch in batches)
        epoch += 1
    return made / (time.perf_counter() - start)


class Silent:
    """Takes the place of the run's reporter."""

    def step(self, phase: str, loss: float) -> None:
        pass


def waiting(training: Training) -> Callable[[WindowLoader], tuple[float, float]]:
    """Measures (ms a step, share of it spent waiting for the batch) in an epoch of phase one."""
    step = training.create_step(phase_two=False)  # compiled once for all loaders
    reporter: Any = Silent()

    def measure(loader: WindowLoader) -> tuple[float, float]:
        with_loader, state = replace(training, loader=loader), training.new.to_devices()
        watch = Watch(loader.samples)
        _, measured = train_epoch(with_loader, step, state, 0, 0, reporter, watch, [])
        return measured['time/step_ms'], measured['time/data_ms'] / measured['time/step_ms']

    return measure


def main() -> None:
    """Prints the table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--shape', type=int, nargs=3, default=(24, 512, 512))
    parser.add_argument('--seconds', type=float, default=5, help='that each rate is measured for')
    parser.add_argument('--steps', type=int, default=20, help='of training for each share')
    args = parser.parse_args()
    config = get_config()
    config.attention.kind = 'none'  # no memory to carry, which phase one does not use
    training = prepare(config)
    measure, sampling = waiting(training), training.settings.sampling
    slices, (height, width), batch = sampling.slices, sampling.crop, sampling.batch_size
    print(f'Windows of {slices} x {height} x {width}, {WORKERS} threads')
    print(f'Waiting of a step of {batch} windows, {jax.devices()}')
    names = list(augmentations())
    head = [f'windows/s, {name}' for name in names] + [f'waiting, {name}' for name in names]
    print('| volume |', ' | '.join(head), '|\n' + '|---' * 7 + '|')
    with tempfile.TemporaryDirectory() as folder:
        for name, volume in volumes(Path(folder), tuple(args.shape)):
            samples = grid_samples(
                volume, volume.parts, (height, width), limit=batch * (args.steps + 1)
            )
            rates, shares = [], []
            for augment in augmentations().values():
                loader = WindowLoader(volume, samples, slices, batch, 0, augment)
                rates.append(f'{windows_per_second(loader, args.seconds):.0f}')
                ms, share = measure(loader)
                shares.append(f'{100 * share:.1f} % of {ms:.0f} ms')
            print(f'| {name} |', ' | '.join(rates + shares), '|', flush=True)


if __name__ == '__main__':
    main()
