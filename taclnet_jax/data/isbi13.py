"""ISBI 2013 (SNEMI3D): 100 sections of mouse cortex with instance ids, through tfds."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from taclnet_jax.config.data import DataSettings
from taclnet_jax.data.builder import VolumeBuilder, prepared_archive, volume_of_ids
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import as_uint8_image, read_stack

URL = 'https://zenodo.org/records/7142003/files/snemi.zip?download=1'
ARCHIVE = 'snemi3d/snemi.zip'
RESOLUTION_NM = (30.0, 6.0, 6.0)
IMAGE = 'snemi3d/train-input.tif'
LABELS = 'snemi3d/train-labels.tif'
VOXELS_SHA256 = {
    IMAGE: '8f6bdb7afd7698189e94b0b99261fb5a10b61bdd7a02031b072fc7524881cbde',
    LABELS: '35ca2901b3ce6a30053c84b28efd7b8adfcbd71cdbad4dc945dd4147a62e27db',
}
"""Of the stacks as published."""


class Isbi13(VolumeBuilder):
    """One example a section: `image` `[y, x]` uint8 and `ids` `[y, x]` uint32, 0 = none."""

    TITLE = 'SNEMI3D'
    ABOUT = {
        'description': 'Training volume of the ISBI 2013 challenge SNEMI3D.',
        'homepage': 'https://zenodo.org/records/7142003',
        'citation': 'Kasthuri et al. 2015, doi:10.1016/j.cell.2015.06.054',
    }
    FEATURES = {'image': np.uint8, 'ids': np.uint32}

    def raw(self, folder: Path) -> Mapping[str, np.ndarray]:
        image = as_uint8_image(read_stack(folder / IMAGE, 'image'), IMAGE)
        ids = read_stack(folder / LABELS, 'labels')
        low, high = ids.min(), ids.max()
        if ids.dtype.kind not in 'iu' or low < 0 or high >= 2**32:
            raise InputError(
                f'Expected integer ids from 0 to {2**32 - 1} in {folder / LABELS}, found '
                f'{ids.dtype} from {low} to {high}; use the labels as published.'
            )
        return {'image': image, 'ids': ids}


def load(settings: DataSettings) -> Volume:
    """Loads the SNEMI3D training volume, first downloading and preparing it where needed.

    In the folder of raw files `snemi3d/train-input.tif` (uint8) and `snemi3d/train-labels.tif`
    (instance ids) are looked for, each as it is or in a zip of its name, or `snemi.zip` with both.

    Returns:
        Image, ids, the membranes between them and what to ignore, read section by section,
        (30, 6, 6) nm.

    Raises:
        InputError: raw files cannot be had or are unfit, or prepared ones not written or read.
    """
    stacks = prepared_archive(Isbi13, settings, VOXELS_SHA256, archive=ARCHIVE, url=URL)
    return volume_of_ids('isbi13', [stacks], RESOLUTION_NM, settings)
