"""What a run begins with, where that is not a new network."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from taclnet_jax.config import differences, read_settings, run_settings
from taclnet_jax.config.settings import RunSettings
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError, doubt
from taclnet_jax.models.exported import is_exported, model_folder, read_files
from taclnet_jax.training.checkpoints import best_variables, restore_phase_one
from taclnet_jax.training.data_identity import check_same_data
from taclnet_jax.training.state import TrainState


def first_state(
    settings: RunSettings, volume: Volume, new: TrainState, steps_per_epoch: int
) -> TrainState:
    """The end of another run's phase one, a new state with another's parameters, or the new one.

    Raises:
        InputError: what `start_from` or `initialise_from` names cannot be used.
    """
    if settings.training.initialise_from:
        return _initialised(settings, new)
    if settings.training.start_from:
        return _after_phase_one(settings, volume, new, steps_per_epoch)
    return new


def _initialised(settings: RunSettings, new: TrainState) -> TrainState:
    name = settings.training.initialise_from
    source = model_folder(name)
    if is_exported(source):
        description, variables = read_files(source)
        there = _trained_on(description)
    else:
        _, variables = best_variables(source)
        run = read_settings(source)
        there = run.data.dataset, run.sampling.fold
    theirs, ours = (jax.tree.map(np.shape, x) for x in (variables, new.variables))
    if theirs != ours:
        raise InputError(
            f'Expected config.initialise_from to name a model of the same network; {name} has '
            'other parameters. Give config.model and config.slices the values in its '
            'config.json, or model.json.'
        )
    here = settings.data.dataset, settings.sampling.fold
    if here[0] == there[0] != 'custom' and here[1] not in (0, there[1]):
        doubt(
            f'{name} was trained on {there[0]} too, with config.fold={there[1]}: it has seen '
            f'sections on which fold {here[1]} is scored, and the scores say nothing of others.'
        )
    average = None if new.average is None else variables
    return new.replace(variables=variables, average=average)


def _trained_on(description: dict[str, Any]) -> tuple[Any, Any]:
    """Data set and fold; None where a description does not say."""
    told = description.get('settings')
    return (told.get('dataset'), told.get('fold')) if isinstance(told, dict) else (None, None)


def _after_phase_one(
    settings: RunSettings, volume: Volume, new: TrainState, steps_per_epoch: int
) -> TrainState:
    folder = settings.training.start_from
    state, config = restore_phase_one(folder, new)
    if found := differences(settings, run_settings(config), in_phase_one=True):
        raise InputError(
            f'The phase one of {folder} had other settings ({"; ".join(found)}); '
            'runs can share it only if nothing but attention, phase two and its losses differ.'
        )
    check_same_data(volume, Path(folder).absolute().parents[1], 'leave config.start_from out')
    due = settings.training.phase_one.epochs * steps_per_epoch
    if state.step != due:
        raise InputError(
            f'The phase one of {folder} ended after {state.step} updates, that of these settings '
            f'and data ends after {due}: its data were others. Give the same, or leave '
            'config.start_from out.'
        )
    return state
