"""ISBI 2013 (SNEMI3D): 100 sections of mouse cortex with instance ids."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from scipy import ndimage

from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import as_uint8_image, read_stack

URL = 'https://zenodo.org/records/7142003'
RESOLUTION_NM = (30.0, 6.0, 6.0)
IMAGE = 'snemi3d/train-input.tif'
LABELS = 'snemi3d/train-labels.tif'


def load_isbi13(data_dir: str | os.PathLike[str]) -> Volume:
    """Loads the SNEMI3D training volume.

    Args:
        data_dir: the folder of raw files, which holds `snemi3d/train-input.tif` and
            `snemi3d/train-labels.tif` (instance ids).

    Returns:
        Image, ids and the membranes between them (`membrane_from_ids`), (30, 6, 6) nm.
    """
    data_dir = Path(data_dir).expanduser().resolve()
    for name in (IMAGE, LABELS):
        if not (data_dir / name).is_file():
            raise InputError(
                f'Expected the SNEMI3D volume at {data_dir / name} (config.data_dir is '
                f'{data_dir}), but there is no such file; it is published at {URL}.'
            )
    image = as_uint8_image(read_stack(data_dir / IMAGE, 'image'), IMAGE)
    ids = read_stack(data_dir / LABELS, 'labels')
    if not np.issubdtype(ids.dtype, np.integer):
        raise InputError(f'Expected integer ids in {data_dir / LABELS}, found {ids.dtype}.')
    return Volume('isbi13', image, membrane_from_ids(ids), ids, RESOLUTION_NM)


def membrane_from_ids(ids: np.ndarray, dilation_px: int = 1) -> np.ndarray:
    """Membranes of an instance segmentation, section by section.

    A membrane is where id 0 is, and where two cells meet: the pixels of two different ids that
    touch by an edge, dilated by `dilation_px` (steps to the four neighbours).

    Args:
        ids: `[z, y, x]` integers, 0 = outside every cell.
        dilation_px: 0 leaves a line two pixels wide, one on each side of the border.

    Returns:
        `[z, y, x]` bool.
    """
    membrane = np.empty(ids.shape, bool)
    for z, section in enumerate(ids):
        touching = np.zeros(section.shape, bool)
        for axis in (0, 1):
            a, t = np.moveaxis(section, axis, 0), np.moveaxis(touching, axis, 0)
            border = (a[1:] != a[:-1]) & (a[1:] != 0) & (a[:-1] != 0)
            t[1:] |= border
            t[:-1] |= border
        if dilation_px:
            touching = ndimage.binary_dilation(touching, iterations=dilation_px)
        membrane[z] = touching | (section == 0)
    return membrane
