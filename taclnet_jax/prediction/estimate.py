"""What a prediction would take, by a window of its middle."""

import dataclasses
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from taclnet_jax.inference import Model
from taclnet_jax.prediction.job import Job
from taclnet_jax.prediction.layout import Layout
from taclnet_jax.prediction.passes import Passes
from taclnet_jax.prediction.predict import Options, active_windows, begin, describe, passes_of
from taclnet_jax.prediction.source import open_image


def estimate(model: Model, input_path: str, options: Options) -> str:
    """Times one window of one section, and says what the whole would take.

    Args:
        model, input_path, options: as `predict_volume` takes them.

    Returns:
        Lines to print.

    Raises:
        InputError: as `predict_volume` does.
    """
    job = describe(model, input_path, options)
    image = open_image(job)
    layout = Layout(job, image.shape, model.inference)
    active = active_windows(job, layout)
    depths = [len(layout.sections_of((k, 0, 0))) for k in range(len(active))]
    windows = int(np.dot(depths, active.sum(axis=(1, 2))))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / 'window'
        begin(scratch, middle(job, layout), model, overwrite=False)
        passes = Passes(scratch, model)
        for k in range(passes.measured[0]):
            passes.measure((k, 0, 0))
        seconds = {name: _seconds(getattr(passes, name)) for name in passes_of(job)}
    pixels = math.prod(layout.grid.shape) * len(layout.sections)
    # P of all that the network sees together, and o in windows that overlap.
    y, x = layout.grid.sides
    slots = y.count * y.longest * x.count * x.longest * len(layout.sections)
    voxels = math.prod(stop - start for start, stop in job.box)
    item = np.dtype(job.dtype).itemsize
    written = voxels * (item * len(job.map_names) + 4 * ('segments' in job.names))
    kept = 4 * pixels * model.inference.slices + 4 * slots * job.attends + written
    total = sum(seconds.values()) * windows
    # Of this process so far, in kB but on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == 'darwin' else 1e3
    )
    parts = ', '.join(f'{name} {value:.2f} s' for name, value in seconds.items())
    return '\n'.join(
        (
            f'{" x ".join(map(str, layout.counts))} blocks; {windows} windows of sections to do',
            f'one window: {parts}',
            f'in all about {_shown_time(total / options.workers)} with {options.workers} '
            f'worker(s), {voxels / total / 1e6:.3f} megavoxels a second and worker',
            f'disk: up to {kept / 1e9:.2f} GB until the end, {written / 1e9:.2f} GB of results '
            'before compression',
            f'memory: about {peak / 1e9:.1f} GB a worker; config.evaluate.tile_px changes it',
        )
    )


def middle(job: Job, layout: Layout) -> Job:
    """The job for one window of the middle section."""
    z = layout.sections[len(layout.sections) // 2]
    y, x = (side.own(side.count // 2) for side in layout.grid.sides)
    rows, columns = layout.in_volume((y, x), job.zoom, (0, *(stop for _, stop in job.box[1:])))
    box = ((z, z + 1), *((s.start, max(s.stop, s.start + 1)) for s in (rows, columns)))
    return dataclasses.replace(job, box=(box[0], box[1], box[2]), mask='', block=(1, 1))


def _shown_time(seconds: float) -> str:
    for name, unit in (('hours', 3600), ('minutes', 60)):
        if seconds >= 2 * unit:
            return f'{seconds / unit:.1f} {name}'
    return f'{seconds:.0f} seconds'


def _seconds(run: Callable[[tuple[int, int, int]], None]) -> float:
    run((0, 0, 0))  # compiles
    start = time.perf_counter()
    run((0, 0, 0))
    return time.perf_counter() - start
