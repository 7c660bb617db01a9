"""The small run, and the command line: in this process, or in one of its own where that matters."""

from __future__ import annotations

import contextlib
import io
import logging as std_logging
import os
import runpy
import shutil
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tifffile
from absl import app, flags, logging

from taclnet_jax.config import get_config, run_settings
from taclnet_jax.config.schema import flatten
from taclnet_jax.config.settings import RunSettings
from taclnet_jax.errors import be_strict

ROOT = Path(__file__).parent.parent

app.define_help_flags()  # else the first command would, and they would go with its own

# A run of seconds: 5 of 12 sections to train on, 3 steps an epoch, one epoch and two. It names all
# that configs/synthetic.py changes, but for how cuts are chosen.
SMALL = {
    'synthetic.shape': (12, 48, 48),
    'downsample': 1,
    'slices': 3,
    'crop': (24, 24),
    'batch_size': 8,
    'model.name': 'convlstm',
    'model.hidden': (4,),
    'model.features': (),
    'model.normalise': False,
    'attention.kind': 'ita',
    'attention.alpha': 1.0,
    'augment.dark': 0.05,
    'augment.blur': 0.05,
    'augment.noise': 0.05,
    'augment.missing': 0.02,
    'augment.misaligned': 0.05,
    'augment.elastic': 0.0,
    'optimizer.name': 'rmsprop',
    'optimizer.weight_decay': 0.0,
    'checkpoint.every_epochs': 1,
    'evaluate.every_epochs': 1,
    'evaluate.views': 1,
    'phase_one.epochs': 1,
    'phase_one.learning_rate': 1e-2,
    'phase_one.schedule': 'constant',
    'phase_two.epochs': 2,
    'phase_two.learning_rate': 1e-3,
    'evaluate.betti_patches': 5,
    'evaluate.betti_patch': 16,
}
STEPS_PER_EPOCH = 3
SAMPLES = 5 * 4  # sections 0-4, four crops each


class Run(NamedTuple):
    """A finished small run.

    Attributes:
        workdir: its folder; look, but copy it to change anything.
        output: what it printed.
    """

    workdir: Path
    output: str

    def copy(self, target: Path) -> Path:
        """Its folder, to do with as one likes."""
        return shutil.copytree(self.workdir, target)


def small_config(**changes: object):
    """The small run's ConfigDict; names with two underscores for dots."""
    config = get_config()
    settings = SMALL | {key.replace('__', '.'): value for key, value in changes.items()}
    assert settings.keys() <= flatten(RunSettings()).keys()
    config.update_from_flattened_dict(settings)
    return config


def small_settings(**changes: object) -> RunSettings:
    """The small run's typed settings; names with two underscores for dots."""
    return run_settings(small_config(**changes))


def arguments(workdir: Path, **changes: object) -> list[str]:
    """The command line of the small run, which chooses its cuts by all training sections."""
    chosen = {'evaluate.threshold_from': 'training'}
    settings = SMALL | chosen | {key.replace('__', '.'): value for key, value in changes.items()}
    flags = [f'--config.{key}={value}' for key, value in settings.items()]
    return ['--config=synthetic', f'--workdir={workdir}', *flags]


def isbi12(folder: Path, image: np.ndarray, labels: np.ndarray) -> list[str]:
    """Writes the stacks where ISBI12 is expected; the command line that trains on them."""
    (folder / 'isbi12').mkdir()
    tifffile.imwrite(folder / 'isbi12' / 'train-volume.tif', image)
    tifffile.imwrite(folder / 'isbi12' / 'train-labels.tif', labels)
    return arguments(
        folder / 'run', dataset='isbi12', data_dir=folder, prepared_dir=folder / 'prepared'
    )


def environment(devices: int = 1) -> dict[str, str]:
    """Variables for a process with so many CPU devices, which computes the bits of `run`."""
    flags = os.environ.get('XLA_FLAGS', '')
    return os.environ | {
        'XLA_FLAGS': f'{flags} --xla_force_host_platform_device_count={devices}',
        'JAX_PLATFORMS': 'cpu',
        'PYTHONPATH': f'{ROOT}{os.pathsep}{ROOT / "tests"}',
    }


def run_on_small_disk(
    folder: Path,
    command: Sequence[str],
    variables: Mapping[str, str],
    size: str = '200k',
    timeout: float = 240,
) -> subprocess.CompletedProcess[str]:
    """A command that alone sees a file system of so many bytes at a folder; skips without one."""
    if os.geteuid() != 0 or shutil.which('mount') is None or shutil.which('unshare') is None:
        pytest.skip('needs root, unshare and mount for a small file system')
    mount = f'mount -t tmpfs -o size={size} tmpfs {folder} && exec "$@"'
    done = subprocess.run(
        ['unshare', '--mount', 'sh', '-c', mount, 'sh', *command],
        env=variables,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if 'mount:' in done.stderr or 'unshare:' in done.stderr:
        pytest.skip('may not mount a small file system here')
    return done


def run(
    *args: str, module: str = 'taclnet_jax.main', devices: int = 1, timeout: float = 300
) -> tuple[int, str]:
    """`python -m MODULE ARGS`: (exit status, output and errors).

    In this process, unless it takes several devices: then `timeout` is a limit in seconds.
    """
    if devices == 1:
        return _run_here(module, list(args))
    done = subprocess.run(
        [sys.executable, '-m', module, *args],
        env=environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    return done.returncode, done.stdout


def _run_here(module: str, args: list[str]) -> tuple[int, str]:
    output, status = io.StringIO(), 0
    with _as_it_was(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        sys.argv = [module, *args]
        # It runs a second time if it was imported before, which is what is meant.
        warnings.filterwarnings('ignore', '.*found in sys.modules', RuntimeWarning, 'runpy')
        try:
            runpy.run_module(module, run_name='__main__', alter_sys=True)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except Exception:
            traceback.print_exc()
            status = 1
    return status, output.getvalue()


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """Takes back what a command changes in its process."""
    argv, defined = sys.argv, set(flags.FLAGS)
    terminate, unraisable = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    verbosity, asyncio = logging.get_verbosity(), std_logging.getLogger('asyncio')
    level, handlers = asyncio.level, std_logging.root.handlers[:]
    try:
        with warnings.catch_warnings():
            yield
    finally:
        std_logging.root.handlers[:] = handlers
        asyncio.setLevel(level)
        logging.set_verbosity(verbosity)
        sys.unraisablehook = unraisable
        signal.signal(signal.SIGTERM, terminate)
        sys.argv = argv
        be_strict(False)
        sys.modules.pop('config_config', None)  # of which ml_collections keeps what a file lacks
        # The next command defines flags of its own; those of libraries that it imported stay.
        for name in set(flags.FLAGS) - defined:
            module = flags.FLAGS.find_module_defining_flag(name)
            if module not in sys.modules or module.startswith(('absl', 'taclnet_jax')):
                with contextlib.suppress(AttributeError):  # one of two names of a flag
                    delattr(flags.FLAGS, name)
