"""Whether the volume and the mask of a job are still what they were when it began."""

import numpy as np

from taclnet_jax.errors import InputError, doubt
from taclnet_jax.files import stamp
from taclnet_jax.prediction.needed import active_windows
from taclnet_jax.prediction.passes import Passes
from taclnet_jax.volumes.sections import listed


def check_unchanged(passes: Passes) -> None:
    """Refuses to mix results of two volumes, or of two masks.

    A file that was written since the job began may hold what it held, or what could not be read
    before. So the grey values of all sections that were measured are counted again, and what the
    mask leaves out is looked up again.

    Raises:
        InputError: they differ.
    """
    job = passes.job
    for name, path in (('input', job.input), ('mask', job.mask)):
        if stamp(path) == job.stamps[name]:
            continue
        again = f'To begin anew, remove {passes.scratch} and start the same command again.'
        if name == 'input' and (other := passes.remeasured()):
            raise InputError(
                f'{path} has changed since this prediction began, in section(s) '
                f'{listed(other, 8)}. {again}'
            )
        if name == 'mask' and not np.array_equal(active_windows(job, passes.layout), passes.active):
            raise InputError(f'The mask {path} has changed since this prediction began. {again}')
        doubt(
            f'{path} was written since this prediction began. What was used of it seems to be the '
            'same, and the prediction goes on.'
        )
