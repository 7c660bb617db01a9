"""Stage 4: critical points of real likelihoods by both backends."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.on_device.report import Report
from benchmarks.on_device.timing import begin, milliseconds
from benchmarks.topology import likelihood
from taclnet_jax.topology import BACKENDS, critical_points

SECTIONS = 6


def measure(report: Report) -> None:
    """Fills the table."""
    begin(report)
    shapes = [(32, 3, 156), (1, 1, 1024), (1, 1, 4096)]
    if report.quick:
        shapes = [(2, 3, 39), (1, 1, 128)]
    rows = ['x'.join(map(str, (*shape, shape[-1]))) for shape in shapes]
    table = report.table(
        'Critical points, median (fastest) ms',
        [
            *(f'`{name}`' for name in BACKENDS),
            *(f'megapixels/s, `{name}`' for name in BACKENDS),
            'points',
            'that differ',
        ],
        rows,
        first='images',
        note='From images on the device to points on the device.',
    )
    for row, shape in zip(rows, shapes, strict=True):
        images = jnp.asarray(_likelihoods(*shape))
        points = []
        for name in BACKENDS:
            with report.part(f'{row}, {name}'):
                call = jax.jit(partial(critical_points, backend=name))
                times = milliseconds(report, partial(call, images))
                table.set(row, f'`{name}`', times)
                table.set(row, f'megapixels/s, `{name}`', images.size / (1e3 * times[1]))
                points.append(np.asarray(call(images)))
                table.set(row, 'points', int(points[-1].sum()))
        if len(points) == len(BACKENDS):
            table.set(row, 'that differ', int((points[0] != points[1]).sum()))


def _likelihoods(batch: int, slices: int, size: int) -> np.ndarray:
    """Crops of the six; of images larger than they are, each is a square of a mosaic."""
    side = -(-size // 1024)
    crops = [likelihood(size // side, section) for section in range(SECTIONS)]
    wanted = batch * slices * side * side
    tiles = np.stack([crops[i % SECTIONS] for i in range(wanted)])
    tiles = tiles.reshape(batch, slices, side, side, size // side, size // side)
    return tiles.swapaxes(3, 4).reshape(batch, slices, size, size)
