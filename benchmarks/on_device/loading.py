"""Stage 6: the windows that the loader makes, and those that a training step eats."""

from __future__ import annotations

from itertools import islice

from benchmarks.loader import augmentations, volumes, waiting, windows_per_second
from benchmarks.on_device import network_settings, networks
from benchmarks.on_device.report import Report
from benchmarks.on_device.timing import begin
from benchmarks.step import training_of
from taclnet_jax.data.loader import WORKERS, WindowLoader
from taclnet_jax.data.windows import grid_samples


def measure(report: Report) -> None:
    """Fills the table."""
    begin(report)
    batch, crop = (2, 24) if report.quick else (10, 156)
    shape = (9, 48, 48) if report.quick else (12, 512, 512)
    seconds, steps = (0.1, 3) if report.quick else (1.5, 30)
    measured = {
        network: waiting(
            training_of('none', 3, batch, crop, **network_settings(network, report.quick))
        )
        for network in networks(report.quick)
    }
    names = augmentations()
    table = report.table(
        f'Windows of 3x{crop}x{crop} a second',
        [
            *(f'made, augmentation {name}' for name in names),
            *(f'eaten by {network}' for network in networks(report.quick)),
            *(f'{network} waits, %' for network in networks(report.quick)),
        ],
        first='volume',
        note=f'Made by {WORKERS} threads, and thrown away. Eaten and waited for: phase one, '
        f'batches of {batch} in float32, default augmentation; what a step would eat if it never '
        'waited.',
    )
    # Two that are made up, and ISBI12. Of ISBI13 such a machine may have a corner alone.
    for name, volume in islice(
        volumes(report.scratch / 'volumes', shape), 2 if report.quick else 3
    ):
        limit = batch * (steps + 1)
        samples = grid_samples(volume, volume.parts, (crop, crop), limit=limit)
        for kind, augment in names.items():
            loader = WindowLoader(volume, samples, 3, batch, 0, augment)
            table.set(name, f'made, augmentation {kind}', windows_per_second(loader, seconds))
            if kind != 'default':
                continue
            for network, of_loader in measured.items():
                ms, share = of_loader(loader)
                table.set(name, f'eaten by {network}', batch / (ms / 1e3 * (1 - share)))
                table.set(name, f'{network} waits, %', 100 * share)
