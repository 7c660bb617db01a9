"""Short runs of the poster's ConvLSTM and of the flagship, and what they end with."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from taclnet_jax.config import flagship_config, get_config, run_settings
from taclnet_jax.config.schema import flatten
from taclnet_jax.config.settings import RunSettings
from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.files import replacing
from taclnet_jax.training.reporting import read_metrics
from taclnet_jax.training.setup import prepare
from taclnet_jax.training.state import TrainState
from taclnet_jax.volumes import write_array

ROOT = Path(__file__).parents[2]
RESOLUTION_NM = (40.0, 4.0, 4.0)
LIMIT_S = 600.0
"""For a command that takes seconds, on a busy machine."""

_SMALL = {
    'synthetic.shape': (12, 32, 32),
    'slices': 3,
    'crop': (32, 32),
    'batch_size': 2,
    'checkpoint.every_epochs': 1,
    'phase_one.epochs': 2,
    'phase_two.epochs': 2,
    'evaluate.every_epochs': 1,
    'evaluate.views': 1,
    'evaluate.threshold_from': 'training',
    'evaluate.threshold_sections': 1,
    'evaluate.test_sections': 1,
    'evaluate.betti_patches': 5,
    'evaluate.betti_patch': 16,
    'evaluate.window_px': 32,  # one of a section, nine of what is predicted
    'evaluate.window_halo_px': 8,
    # What it compiles can be kept for the next process, which JAX 0.10 does of no callback.
    'attention.backend': 'xla',
}
Process = subprocess.Popen[bytes]
NETWORKS = ('convlstm', 'flagship')


def settings_of(network: str, **changes: Any) -> RunSettings:
    """Of a short run; names of settings with two underscores for dots."""
    config = get_config() if network == 'convlstm' else flagship_config()
    named = {key.replace('__', '.'): value for key, value in changes.items()}
    config.update_from_flattened_dict(_SMALL | named)
    return run_settings(config)


def training(network: str, workdir: Path, **changes: Any) -> list[str]:
    """The command that trains and evaluates it."""
    settings = flatten(settings_of(network, **changes))
    flags = [f'--config.{key}={value}' for key, value in settings.items()]
    return ['--config=synthetic', f'--workdir={workdir}', *flags]


def evaluating(workdir: Path) -> list[str]:
    """The command that evaluates it again."""
    return ['--mode=evaluate', f'--workdir={workdir}']


def predicting(workdir: Path, stack: Path, output: Path) -> list[str]:
    """The command that predicts a stack in blocks."""
    places = [f'--workdir={workdir}', f'--input={stack}', f'--output={output}']
    return ['--mode=predict', *places, '--dtype=float32', '--names=membrane,refined,segments']


def write_input(path: Path) -> None:
    """A volume of several blocks."""
    image = synthetic_volume(seed=4, shape=(4, 96, 96)).image
    write_array(path, image, resolution_nm=RESOLUTION_NM, format='zarr3')


def random_state(template: TrainState, seed: int, step: int) -> TrainState:
    """A state of the same arrays with other numbers in them."""
    rng = np.random.default_rng(seed)

    def other(x: Any) -> Any:
        x = np.asarray(x)
        return rng.normal(size=x.shape).astype(x.dtype) if x.dtype.kind == 'f' else x

    return jax.tree.map(other, template).replace(step=np.array(step, np.int32))


@cache
def new_state(network: str) -> TrainState:
    """The state that a short run begins with."""
    return prepare(settings_of(network)).new


# --- Processes


def environment(scratch: Path) -> dict[str, str]:
    """Variables of a command: little is spent on compiling, and what one has, the others load."""
    return os.environ | {
        'XLA_FLAGS': '--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1',
        'JAX_PLATFORMS': 'cpu',
        'PYTHONPATH': os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH')))),
        'JAX_COMPILATION_CACHE_DIR': str(scratch / 'compiled'),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.1',
    }


def start(arguments: list[str], scratch: Path, log: Path) -> Process:
    """The command line in a session of its own; what it prints goes into the log."""
    with log.open('wb') as output:
        return subprocess.Popen(
            [sys.executable, '-m', 'taclnet_jax.main', *arguments],
            env=environment(scratch),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def ended(process: Process, seconds: float = LIMIT_S) -> int | None:
    """Its exit status; None where it took too long, and was killed. None of it is left."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        kill(process)


def kill(process: Process) -> None:
    """Ends it at once, and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def finish(process: Process, log: Path) -> float:
    """Waits for the end of a command; the seconds of a processor that it took.

    Raises:
        RuntimeError: it ended otherwise than with status 0.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if (status := ended(process)) != 0:
        raise RuntimeError(f'status {status}: {tail(log)}')
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cpu_seconds(process: Process) -> float:
    """What a process has used so far, on whatever machine; 0 where it has ended."""
    try:
        stat = Path(f'/proc/{process.pid}/stat').read_text()
    except OSError:
        return 0.0
    fields = stat.rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def tail(log: Path) -> str:
    """The last lines that a command printed."""
    lines = log.read_text(errors='replace').strip().splitlines()
    return ' / '.join(line.strip()[:300] for line in lines[-3:])


# --- What they end with


def end_of(workdir: Path) -> dict[str, str]:
    """Sums of all that a run ends with: its states, scores and losses; by name."""
    found = {}
    for name in ('last', 'best', 'phase_one'):
        folder = workdir / 'checkpoints' / name
        options = ocp.CheckpointManagerOptions(read_only=True)
        with ocp.CheckpointManager(folder, options=options) as manager:
            step = manager.latest_step()
            items = {item: ocp.args.StandardRestore() for item in ('variables', 'training')}
            state = manager.restore(step, args=ocp.args.Composite(**items))
            for item in items:
                for path, leaf in jax.tree_util.tree_leaves_with_path(state[item]):
                    content = f'{np.asarray(leaf).dtype} {np.shape(leaf)}'.encode()
                    content += np.ascontiguousarray(leaf).tobytes()
                    where = f'{name}/{item}{jax.tree_util.keystr(path)}'
                    found[where] = hashlib.sha256(content).hexdigest()
    found['scores'] = (workdir / 'results.json').read_text()
    records = read_metrics(workdir / 'metrics.jsonl')
    kept = [{k: v for k, v in r.items() if not k.startswith('time/')} for r in records]
    found['losses'] = json.dumps(kept)
    return found


def bytes_of(output: Path) -> dict[str, str]:
    """Sums of a prediction's arrays, by the name of the file."""
    files = sorted(output.glob('*.tif'))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def differences(one: dict[str, str], other: dict[str, str]) -> str:
    """What two ends do not share; '' for equal ones."""
    names = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    return f'{len(names)} of {len(one)} differ, such as {names[0]}' if names else ''


class Undisturbed(NamedTuple):
    """A finished short run, with what is to be compared.

    Attributes:
        run, stack, prediction: folders.
        end, bytes: of `end_of` and `bytes_of`.
        seconds: of a processor, by the name of the command; `start` until a training begins.
    """

    run: Path
    stack: Path
    prediction: Path
    end: dict[str, str]
    bytes: dict[str, str]
    seconds: dict[str, float]


def undisturbed(network: str, scratch: Path) -> Undisturbed:
    """Made once, in `scratch`.

    Raises:
        RuntimeError: a command failed, or two runs without a fault end differently.
    """
    folder, log = scratch / f'undisturbed_{network}', scratch / 'undisturbed.log'
    if not folder.exists():
        with replacing(folder) as partial:
            partial.mkdir()
            write_input(partial / 'input.zarr')
            for name in ('first', 'run'):  # the first one compiles
                process = start(training(network, partial / name), scratch, log)
                until(partial / name / '.training.lock', process)
                seconds = {'start': cpu_seconds(process)}
                seconds['train'] = finish(process, log)
            if different := differences(end_of(partial / 'first'), end_of(partial / 'run')):
                raise RuntimeError(f'Two runs without a fault: {different}')
            evaluate = evaluating(partial / 'run')
            seconds['evaluate'] = finish(start(evaluate, scratch, log), log)
            for name in ('first', 'prediction'):
                shutil.rmtree(partial / 'first')
                predict = predicting(partial / 'run', partial / 'input.zarr', partial / name)
                seconds['predict'] = finish(start(predict, scratch, log), log)
            (partial / 'seconds.json').write_text(json.dumps(seconds))
    run, prediction = folder / 'run', folder / 'prediction'
    seconds = json.loads((folder / 'seconds.json').read_text())
    end, content = end_of(run), bytes_of(prediction)
    return Undisturbed(run, folder / 'input.zarr', prediction, end, content, seconds)


def until(path: Path, process: Process) -> None:
    """Waits until a path is there, or the process has ended."""
    end = time.monotonic() + LIMIT_S
    while not path.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


def until_used(seconds: float, process: Process) -> None:
    """Waits until a process has used so many seconds of a processor, or has ended."""
    end = time.monotonic() + LIMIT_S
    while cpu_seconds(process) < seconds and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
