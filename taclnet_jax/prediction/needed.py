"""Which windows and blocks of a job there is anything to do in."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from taclnet_jax.errors import InputError
from taclnet_jax.prediction.job import Job
from taclnet_jax.prediction.layout import Layout
from taclnet_jax.progress import with_progress
from taclnet_jax.volumes import open_array


def active_windows(job: Job, layout: Layout) -> NDArray[np.bool_]:
    """Windows with pixels in the mask, `[blocks along z, windows along y, along x]`.

    Raises:
        InputError: there are none.
    """
    rows, columns = (side.count for side in layout.grid.sides)
    active = np.ones((layout.counts[0], rows, columns), bool)
    if not job.mask:
        return active
    mask = open_array(job.mask, 'mask', job.mask_dataset)
    whole = slice(0, layout.grid.shape[0]), slice(0, layout.grid.shape[1])
    blocks = with_progress(range(len(active)), len(active), 'mask', 'layer')
    for k in blocks:
        for window in layout.grid.owners(whole):
            y, x = layout.in_volume(window.own, job.zoom, mask.shape)
            active[k, *window.place] = any(
                mask[layout.sections[z], y, x].any() for z in layout.sections_of((k, 0, 0))
            )
    if not active.any():
        raise InputError(f'The mask {job.mask} is 0 throughout the box; there is nothing to do.')
    return active


def needed_blocks(layout: Layout, active: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """`[blocks along z, y, x]` that each pass has to do."""
    # A window sees P of those around it.
    around = np.stack([binary_dilation(a, np.ones((3, 3), bool)) for a in active])
    windows = layout.block[1]

    def of_blocks(wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        starts = (np.arange(0, n, windows) for n in wanted.shape[1:])
        y, x = starts
        return np.logical_or.reduceat(np.logical_or.reduceat(wanted, y, axis=1), x, axis=2)

    return {'predict': of_blocks(around), 'attend': of_blocks(active), 'finish': of_blocks(active)}
