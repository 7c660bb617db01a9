"""Whether a run can start, and where from."""

from __future__ import annotations

import os
from typing import Any

import jax

from taclnet_jax.config import PHASE_TWO_KEYS, differences
from taclnet_jax.errors import InputError
from taclnet_jax.topology import check_callbacks_can_run
from taclnet_jax.training.checkpoints import restore_phase_one
from taclnet_jax.training.state import TrainState


def start_from(config: Any, new: TrainState) -> TrainState | None:
    """The end of the phase one that `config.start_from` names; None where it names none."""
    if not config.start_from:
        return None
    state, other = restore_phase_one(config.start_from, new)
    if found := differences(config, other, PHASE_TWO_KEYS):
        raise InputError(
            f'The phase one of {config.start_from} had other settings (' + '; '.join(found) + '); '
            'runs can share it only if nothing but attention, phase two and its losses differ.'
        )
    return state


def check_memory(config: Any, samples: int) -> None:
    """Refuses an ITA memory larger than half of this machine's."""
    if config.attention.kind != 'ita':
        return
    needed = 2 * 4 * samples * config.crop[0] * config.crop[1]  # two float32 maps a sample
    there = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    if needed > there / 2:
        raise InputError(
            f'The ITA memory of {samples} training crops needs {needed / 1e9:.0f} GB, and this '
            f'machine has {there / 1e9:.0f}. Set config.crops_limit, for instance to '
            f'{int(samples * there / needed / 4)}, or config.attention.kind to sta.'
        )


def check_devices(config: Any) -> None:
    """Refuses batches that do not divide over the devices, and devices that would deadlock."""
    devices = jax.local_device_count()
    if config.batch_size % devices:
        raise InputError(
            f'Expected config.batch_size to be a multiple of the {devices} devices; found '
            f'{config.batch_size}.'
        )
    if config.attention.backend == 'gudhi':
        try:
            check_callbacks_can_run()
        except RuntimeError as error:
            raise InputError(str(error)) from error
