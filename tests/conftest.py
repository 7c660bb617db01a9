"""Settings that have to stand before JAX starts, and what the tests of several rooms share."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:  # It imports JAX.
    from commands import Run

# As many threads for every process of the tests, so that all round alike; callbacks could hang with
# as few as a machine of one core has.
os.environ.setdefault('NPROC', '16')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

# Compiling is most of the time of what is small, and faster in one piece and without LLVM's
# optimizations; without emitting fusions through MLIR, which newer JAX has no flag for, it
# takes a fifth for a step of training. `XLA_FLAGS= pytest` compiles as users do.
os.environ.setdefault(
    'XLA_FLAGS',
    '--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1'
    + ' --xla_cpu_use_fusion_emitters=false' * version('jaxlib').startswith('0.10.'),
)

# What one process has compiled, the others load.
_CACHE = None
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    _CACHE = os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='taclnet_jax_tests_')
    os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.05'


# Files of tests that take long, the longest first.
LONGEST = (
    'test_resume',
    'test_processes',
    'test_interrupted',
    'test_accelerator',
    'test_faults',
    'test_data_sets',
    'test_notebooks',
    'test_reproduction',
    'test_docs',
    'test_persistence',
    'test_peak_memory',
    'test_checkpoints',
    'test_callbacks',
    'test_predict',
    'test_leaks',
    'test_modes',
    'test_attention',
    'test_blocks',
    'test_tiles',
    'test_devices',
    'test_main',
    'test_train',
    'test_custom',
    'test_skipped',
    'test_models',
    'test_sizes',
    'test_synthesize',
    'test_topological_loss',
    'test_commandline',
    'test_packaging',
    'test_critical_points',
    'test_figures',
    'test_memory',
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first: one that begins last would keep a worker busy alone."""
    places = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_unconfigure() -> None:
    """The end of the process that began the session, or of one of its workers."""
    if _CACHE is not None:
        shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture(scope='session')
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder by name, filled by the first of the session's processes that asks for it."""
    base = tmp_path_factory.getbasetemp()
    # Workers of pytest-xdist have a folder each, in one of the session.
    shared = base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder, done = shared / name, shared / f'{name}.done'
        with (shared / f'{name}.lock').open('w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope='session')
def trained(made_once: Callable[..., Path]) -> Run:
    """The small run, trained and evaluated once a session."""
    from commands import Run, arguments, run

    def train(folder: Path) -> None:
        status, output = run(*arguments(folder / 'run'))
        assert status == 0, output
        (folder / 'output').write_text(output)

    folder = made_once('trained', train)
    return Run(folder / 'run', (folder / 'output').read_text())


@pytest.fixture(scope='module')
def without_pictures() -> Iterator[None]:
    """Runs of this process draw nothing, which takes a third of a small one's time."""
    from taclnet_jax import figures
    from taclnet_jax.evaluation import evaluate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, 'write_pictures', lambda *_: None)
        patch.setattr(figures, 'training_curves', lambda *_: None)
        yield


@pytest.fixture(scope='module')
def plain_pictures() -> Iterator[None]:
    """Pictures of sections are written, but empty: drawing takes most of a small prediction."""
    from taclnet_jax.figures import sections

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sections, 'grid', lambda *_, **__: np.zeros((8, 8, 3), np.uint8))
        yield


@pytest.fixture(scope='module')
def compiled_once() -> Iterator[None]:
    """Runs of this process trace and compile steps and inferences of the same settings once.

    It is most of a small run's time, and has no part in how runs are stopped and go on.
    """
    from taclnet_jax import inference
    from taclnet_jax.training.setup import Training

    made: dict[str, object] = {}

    def once(create: Callable[..., object], key: str, *args: object, **options: object) -> object:
        if key not in made:
            made[key] = create(*args, **options)
        return made[key]

    def create_step(training: Training, phase_two: bool) -> object:
        used = training.settings
        trained = replace(used.training, start_from='', initialise_from='')
        parts = used.model, used.precision, used.attention, used.losses, trained
        key = repr((*parts, used.sampling.slices, training.loader.steps_per_epoch, phase_two))
        return once(steps, key, training, phase_two)

    def create_inference(network: object, **options: object) -> object:
        return once(inferences, repr((network, options)), network, **options)

    steps, inferences = Training.create_step, inference.create_inference
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, 'create_step', create_step)
        for module in (inference, inference.model):
            patch.setattr(module, 'create_inference', create_inference)
        yield


@pytest.fixture(scope='session')
def run_command() -> Callable[..., tuple[int, str]]:
    """`commands.run`."""
    from commands import run

    return run


@pytest.fixture
def refused(run_command: Callable[..., tuple[int, str]]) -> Callable[..., str]:
    """The message of a command line that has to end with exit status 2 and one line."""

    def message(*args: str, **options: object) -> str:
        status, output = run_command(*args, **options)
        assert status == 2, output
        assert 'Traceback' not in output
        messages = [line for line in output.splitlines() if line.startswith('taclnet: error: ')]
        assert len(messages) == 1, output
        return messages[0]

    return message


@pytest.fixture(scope='session')
def data_dir() -> Path:
    """The folder of raw files that TACLNET_DATA_DIR names; skips the test where it names none."""
    if not os.environ.get('TACLNET_DATA_DIR'):
        pytest.skip('TACLNET_DATA_DIR names no folder of raw files')
    return Path(os.environ['TACLNET_DATA_DIR'])
