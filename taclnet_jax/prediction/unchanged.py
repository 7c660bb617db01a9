"""Whether the volume and the mask of a job are still what they were when it began."""

from pathlib import Path

import numpy as np

from taclnet_jax.errors import InputError, doubt
from taclnet_jax.files import stamp
from taclnet_jax.inference import Model
from taclnet_jax.prediction.job import Job
from taclnet_jax.prediction.needed import active_windows
from taclnet_jax.prediction.passes import Passes
from taclnet_jax.volumes.sections import listed


def stamps(input_path: str, mask: str) -> dict[str, str]:
    """Of the files of a job, as they are now (`files.stamp`)."""
    return {'input': stamp(input_path), 'mask': stamp(mask)}


def check_unchanged(scratch: Path, model: Model, now: dict[str, str]) -> None:
    """Refuses to mix results of two volumes, or of two masks.

    A file that was written since the job began may hold what it held, or what could not be read
    before. So the grey values of all sections that were measured are counted again, and what the
    mask leaves out is looked up again.

    Args:
        scratch: folder of the job.
        model: its network.
        now: `stamps` of its files.

    Raises:
        InputError: they differ.
    """
    before = Job.read(scratch / 'job.json').stamps
    if now == before:
        return
    passes = Passes(scratch, model)  # with the files that are there now
    job = passes.job
    again = f'To begin anew, remove {scratch} and start the same command again.'
    if now['input'] != before['input'] and (other := passes.remeasured()):
        raise InputError(
            f'{job.input} has changed since this prediction began, in section(s) '
            f'{listed(other, 8)}. {again}'
        )
    if now['mask'] != before['mask'] and not np.array_equal(
        active_windows(job, passes.layout), passes.active
    ):
        raise InputError(f'The mask {job.mask} has changed since this prediction began. {again}')
    for path in [getattr(job, name) for name in before if now[name] != before[name]]:
        doubt(
            f'{path} was written since this prediction began. What was used of it seems to be the '
            'same, and the prediction goes on.'
        )
