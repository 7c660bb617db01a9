"""From a configuration to everything that a training is made of, in one place."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import taclnet_jax
from taclnet_jax.config import differences, read_settings, run_settings
from taclnet_jax.config.schema import as_nested, flatten
from taclnet_jax.config.settings import RunSettings
from taclnet_jax.data import load_volume, training_volume
from taclnet_jax.data.loader import WindowLoader
from taclnet_jax.data.own_files import paths_in
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import (
    Split,
    balanced_weights,
    grid_samples,
    labelled_samples,
    split_sections,
)
from taclnet_jax.errors import InputError
from taclnet_jax.files import write_text
from taclnet_jax.lock import locked
from taclnet_jax.models import Network, create_model
from taclnet_jax.topology import check_callbacks_can_run
from taclnet_jax.training import parallel
from taclnet_jax.training.beginning import first_state
from taclnet_jax.training.checkpoints import Checkpoints, stored_config
from taclnet_jax.training.data_identity import check_same_data, keep_data
from taclnet_jax.training.objective import create_objective
from taclnet_jax.training.optimizer import create_optimizer
from taclnet_jax.training.state import ITAMemory, TrainState, create_train_state
from taclnet_jax.training.step import Step, create_step
from taclnet_jax.training.vgg19 import load_vgg19


@dataclass(frozen=True)
class Training:
    """What a training is made of."""

    settings: RunSettings
    volume: Volume  # at its own resolution, labelled
    split: Split  # what its sections are for
    loader: WindowLoader  # of batches, at the network's resolution
    network: Network
    optimizer: optax.GradientTransformation  # of both phases
    new: TrainState  # before the first step, on the host

    @property
    def epochs(self) -> int:
        """Of both phases."""
        return self.settings.training.phase_one.epochs + self.settings.training.phase_two.epochs

    @property
    def steps(self) -> int:
        """Of both phases."""
        return self.epochs * self.loader.steps_per_epoch

    def is_phase_two(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, is of phase two."""
        return epoch >= self.settings.training.phase_one.epochs

    def create_step(self, phase_two: bool) -> Step:
        """The update of either phase, compiled for all devices."""
        settings = self.settings
        objective = create_objective(
            self.network,
            phase_two,
            slices=settings.sampling.slices,
            attention=settings.attention,
            losses=settings.losses,
            axis_name=parallel.AXIS,
        )
        remembers = phase_two and settings.attention.kind == 'ita'
        return create_step(
            objective,
            self.optimizer,
            settings.training.optimizer.average,
            settings.attention.beta if remembers else None,
            settings.training.microbatches,
        )


def prepare(config: Mapping[str, Any] | RunSettings, volume: Volume | None = None) -> Training:
    """Makes everything that a training needs, and writes nothing.

    Args:
        config: as `taclnet_jax.config.get_config` makes it, or typed already.
        volume: if it is loaded already.

    Raises:
        InputError: settings, data or devices cannot be used.
    """
    settings = config if isinstance(config, RunSettings) else run_settings(config)
    sampling = settings.sampling
    check_devices(sampling.batch_size, settings.training.microbatches, settings.attention.backend)
    perceptual = settings.losses.perceptual_loss
    if perceptual.weight and perceptual.vgg19:
        load_vgg19(perceptual.vgg19)  # used in phase two, and refused before phase one
    volume = volume or load_volume(settings.data)
    split = split_sections(volume, sampling)
    seen = training_volume(volume, settings.data.downsample)
    limit = sampling.crops_limit
    grid = grid_samples(seen, split.train, sampling.crop, limit, settings.seed)
    samples = labelled_samples(seen, grid)  # their indices are the sample ids of the ITA memory
    remembers = settings.attention.kind == 'ita'
    if remembers:
        check_memory(len(samples), sampling.crop)
    if sampling.batch_size > len(samples):
        raise InputError(
            f'Expected config.batch_size to be at most {len(samples)}, the number of training '
            f'crops; found {sampling.batch_size}. Use smaller batches or smaller crops.'
        )
    loader = WindowLoader(
        seen,
        samples,
        sampling.slices,
        sampling.batch_size,
        settings.seed,
        sampling.augment,
        balanced_weights(seen, samples) if sampling.crops_balanced else None,
        (jax.process_index(), jax.process_count()),
    )
    network = create_model(settings.model, settings.precision, parallel.AXIS)
    optimizer = create_optimizer(settings.training, loader.steps_per_epoch)
    new = create_train_state(
        network,
        optimizer,
        slices=sampling.slices,
        seed=settings.seed,
        average=settings.training.optimizer.average > 0,
        memory=ITAMemory.create(len(samples), sampling.crop) if remembers else None,
    )
    return Training(settings, volume, split, loader, network, optimizer, new)


@contextmanager
def opened(training: Training, workdir: str | Path) -> Iterator[tuple[Checkpoints, TrainState]]:
    """The folder of a run, held by the first process, with the state to go on from, on the host.

    That of the run's last checkpoint; or the end of the phase one that `start_from` names; or new,
    with the parameters of the model that `initialise_from` names. Where nothing refuses it the
    run's config.json is written.

    Raises:
        InputError: the folder holds another configuration's run, another process trains there, or
            what `start_from` or `initialise_from` names cannot be used; then nothing is changed.
    """
    settings, folder = training.settings, Path(workdir)
    steps = training.loader.steps_per_epoch
    beginning = partial(first_state, settings, training.volume, training.new, steps)
    # Before the workdir is made. A run that goes on from its own checkpoint needs no other.
    begun = (folder / 'checkpoints').exists()
    first = None if begun else beginning()
    check_workdir(settings, folder)
    folder.mkdir(parents=True, exist_ok=True)
    busy = (
        f'Expected {folder} to be trained by one process at a time; {{holder}} is training there. '
        'Wait until it ends, stop it, or choose another --workdir.'
    )
    config = as_nested(_located(settings))
    with locked(folder / '.training.lock', busy) if parallel.is_first() else nullcontext():
        if parallel.is_first():
            check_workdir(settings, folder)  # another training may just have begun there
            check_same_data(training.volume, folder)
            keep_data(training.volume, folder)
            write_text(folder / 'config.json', json.dumps(config, indent=2) + '\n')
        parallel.wait()  # for what refuses the folder
        check_processes(training, folder)
        checkpoints, lost = Checkpoints(folder, settings.checkpoint, config), False
        try:
            state = checkpoints.restore_last(training.new)
            yield checkpoints, state or first or beginning()
        except jax.errors.JaxRuntimeError:
            # Perhaps another process is gone, for which Orbax would wait.
            lost = jax.process_count() > 1
            raise
        finally:
            if not lost:
                checkpoints.close()


def check_workdir(settings: RunSettings, folder: Path) -> None:
    """Refuses the folder of another configuration's run, a file, and names that Orbax mistakes."""
    if found := [sign for sign in '[]*?' if sign in str(folder.absolute())]:
        # It looks for its files by patterns, and would leave checkpoints without content.
        raise InputError(
            f'Expected --workdir without {" ".join(found)} in its path, as checkpoints would be '
            f'lost there; found {folder}. Choose another folder.'
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f'Expected --workdir to be a folder; {folder} is a file.')
    if (there := _settings_there(folder)) is not None:
        advice = 'Choose another --workdir, or the settings of that run.'
        check_same_run(settings, there, folder, advice)


def _settings_there(folder: Path) -> RunSettings | None:
    """Of the run in a folder: its config.json, or its checkpoints if that was lost."""
    if (folder / 'config.json').exists():
        return read_settings(folder)
    try:
        config = stored_config(folder)
        return run_settings(config) if config else None
    except InputError as error:
        raise InputError(
            f'{folder} has no config.json, and the settings in its checkpoints cannot be used: '
            f'{error} Choose another --workdir.'
        ) from error


def check_processes(training: Training, folder: Path) -> None:
    """Refuses processes that were started differently, or do not see the first one's folder."""
    if jax.process_count() == 1:
        return
    places = ('data_dir', 'prepared_dir', 'custom.image', 'custom.labels', 'custom.ignore')
    settings = {k: v for k, v in sorted(flatten(training.settings).items()) if k not in places}
    said = f'{settings} {training.volume.identity} {taclnet_jax.__version__} {jax.__version__}'
    sees = bytes([_appears(folder / 'config.json')])
    rows = parallel.of_each(np.frombuffer(sees + hashlib.sha256(said.encode()).digest(), np.uint8))
    if blind := np.flatnonzero(rows[:, 0] == 0).tolist():
        raise InputError(
            f'Expected --workdir to be one folder that all processes see; {folder} is another one, '
            f'or none, for process {", ".join(map(str, blind))}. Choose a folder that all share.'
        )
    if odd := np.flatnonzero((rows != rows[0]).any(1)).tolist():
        raise InputError(
            'Expected the same settings, data and versions in all processes; those of process '
            f'{", ".join(map(str, odd))} are other than those of process 0. Give all the same '
            'command.'
        )


def _appears(file: Path) -> bool:
    """Whether there is a file, for which a network's file system may take a while."""
    for _ in range(30):
        if file in file.parent.iterdir():  # asks again, where exists() may remember
            return True
        time.sleep(1)
    return False


def _located(settings: RunSettings) -> RunSettings:
    """With whole paths, which mean the same from every folder."""

    def whole(*paths: str) -> str:
        return ','.join(os.path.abspath(p) if p and '://' not in p else p for p in paths)

    data, custom = settings.data, settings.data.custom
    named: dict[str, Any] = {
        name: whole(*paths_in(getattr(custom, name))) for name in ('image', 'labels', 'ignore')
    }
    folders: dict[str, Any] = {n: whole(getattr(data, n)) for n in ('data_dir', 'prepared_dir')}
    return replace(settings, data=replace(data, custom=replace(custom, **named), **folders))


def check_same_run(
    settings: RunSettings, run: RunSettings, folder: str | Path, advice: str
) -> None:
    """Refuses settings that are of another run than the one in a folder."""
    if found := differences(settings, run):
        raise InputError(
            f'{folder} holds the run of another configuration ({"; ".join(found)}). {advice}'
        )


def check_memory(samples: int, crop: tuple[int, int]) -> None:
    """Refuses an ITA memory larger than half of this machine's."""
    needed = 2 * 4 * samples * crop[0] * crop[1]  # two float32 maps a sample
    there = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    if needed > there / 2:
        raise InputError(
            f'The ITA memory of {samples} training crops needs {needed / 1e9:.0f} GB, and this '
            f'machine has {there / 1e9:.0f}. Set config.crops_limit, for instance to '
            f'{int(samples * there / needed / 4)}, or config.attention.kind to sta.'
        )


def check_devices(batch_size: int, microbatches: int, backend: str) -> None:
    """Refuses batches that do not divide over the devices, and devices that would deadlock."""
    devices = jax.device_count()
    if batch_size % (devices * microbatches):
        times = f', times {microbatches} config.microbatches' if microbatches > 1 else ''
        raise InputError(
            f'Expected config.batch_size to be a multiple of the {devices} devices{times}; found '
            f'{batch_size}.'
        )
    if backend == 'gudhi':
        try:
            check_callbacks_can_run()
        except RuntimeError as error:
            raise InputError(str(error)) from error
