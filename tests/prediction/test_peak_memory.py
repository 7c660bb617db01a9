"""The memory of a prediction follows from its windows, not from the volume."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import environment
from made_up import tiny, write_run

from taclnet_jax.volumes import LazySections, write_array

SMALL, DEEP, WIDE = (1, 1024, 1024), (384, 256, 256), (1, 4096, 4096)
PREDICT = """
import resource, sys
from taclnet_jax.inference import load
from taclnet_jax.prediction.predict import Options, predict_volume
run, volume, output = sys.argv[1:]
options = Options(names=['membrane'], format='zarr3')
predict_volume(load(run), volume, output, options)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(peak / (1e6 if sys.platform == 'darwin' else 1e3))
"""


@pytest.mark.slow
def test_memory_hardly_grows_with_the_volume(tmp_path: Path) -> None:
    windows = {'window_px': 256, 'window_halo_px': 32, 'tile_px': 256}
    used = tiny(slices=1, **{f'evaluate__{name}': value for name, value in windows.items()})
    run = write_run(tmp_path / 'run', used)
    noise = np.random.default_rng(0).integers(0, 256, (4096, 4096), np.uint8)
    megabytes = {}
    for shape in (SMALL, DEEP, WIDE):
        volume = tmp_path / '_'.join(map(str, shape))
        stack = LazySections(shape, np.uint8, lambda z, rows, columns: noise[rows, columns])
        write_array(volume, stack, format='zarr3', chunk=(1, 256, 256))
        done = subprocess.run(
            [sys.executable, '-c', PREDICT, str(run), str(volume), f'{volume}_out'],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        megabytes[shape] = float(done.stdout)
    # What was read last is kept, up to 256 MiB, and so much is written at once: here up to 25 and
    # 16 MB of either. P itself takes four times as many, and segments four more.
    assert megabytes[DEEP] < megabytes[SMALL] + 80, megabytes
    assert megabytes[WIDE] < megabytes[SMALL] + 100, megabytes
