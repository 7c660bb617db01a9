"""Runs the command line in processes of its own, as users do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from taclnet_jax.config import flatten
from taclnet_jax.config import get_config as default_config

ROOT = Path(__file__).parent.parent

# A run of seconds: 5 of 12 sections to train on, 3 steps an epoch, one epoch and two.
SMALL = {
    'synthetic.shape': (12, 48, 48),
    'crop': (24, 24),
    'batch_size': 8,
    'model.hidden': (4,),
    'phase_one.epochs': 1,
    'phase_one.learning_rate': 1e-2,
    'phase_one.schedule': 'constant',
    'phase_two.epochs': 2,
    'phase_two.learning_rate': 1e-3,
    'evaluate.betti_patches': 5,
    'evaluate.betti_patch': 16,
}


def small_config(**changes: object):
    """The small run's ConfigDict; names with two underscores for dots."""
    config = default_config()
    settings = SMALL | {key.replace('__', '.'): value for key, value in changes.items()}
    assert settings.keys() <= flatten(config).keys()
    config.update_from_flattened_dict(settings)
    return config


def arguments(workdir: Path, **changes: object) -> list[str]:
    """The command line of the small run."""
    settings = SMALL | {key.replace('__', '.'): value for key, value in changes.items()}
    flags = [f'--config.{key}={value}' for key, value in settings.items()]
    config = ROOT / 'configs' / 'synthetic.py'
    return [f'--config={config}', f'--workdir={workdir}', *flags]


def isbi12(folder: Path, image: np.ndarray, labels: np.ndarray) -> list[str]:
    """Writes the stacks where ISBI12 is expected; the command line that trains on them."""
    (folder / 'isbi12').mkdir()
    tifffile.imwrite(folder / 'isbi12' / 'train-volume.tif', image)
    tifffile.imwrite(folder / 'isbi12' / 'train-labels.tif', labels)
    return arguments(
        folder / 'run', dataset='isbi12', data_dir=folder, prepared_dir=folder / 'prepared'
    )


def environment(devices: int = 1) -> dict[str, str]:
    """Variables for a process with so many CPU devices."""
    return os.environ | {
        'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
        'NPROC': str(devices + 2),
        'JAX_PLATFORMS': 'cpu',
        # These runs are so small that compiling them is most of their time.
        'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
        'PYTHONPATH': str(ROOT),
    }


def start(*args: str, devices: int = 1, **options: object) -> subprocess.Popen[str]:
    """Starts `python -m taclnet_jax.main`, its output and errors in one pipe."""
    return subprocess.Popen(
        [sys.executable, '-m', 'taclnet_jax.main', *args],
        env=environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def run(*args: str, devices: int = 1, timeout: float = 300) -> tuple[int, str]:
    """Runs `python -m taclnet_jax.main` to its end: (exit status, output and errors)."""
    process = start(*args, devices=devices)
    try:
        output, _ = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, output


def lines_until(process: subprocess.Popen[str], *words: str) -> Iterator[str]:
    """The lines of a running process up to one that holds one of the words."""
    assert process.stdout is not None
    for line in process.stdout:
        yield line
        if any(word in line for word in words):
            return
