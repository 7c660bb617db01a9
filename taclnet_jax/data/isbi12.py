"""ISBI 2012: 30 sections of Drosophila nerve cord, ssTEM, through tensorflow-datasets."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from taclnet_jax.config.data import DataSettings
from taclnet_jax.data.builder import VolumeBuilder, prepared_archive
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import as_uint8_image, read_stack
from taclnet_jax.volumes.sections import listed

URL = 'https://downloads.imagej.net/ISBI-2012-challenge.zip'
ARCHIVE = 'isbi12/ISBI-2012-challenge.zip'
RESOLUTION_NM = (50.0, 4.0, 4.0)
IMAGE = 'isbi12/train-volume.tif'
LABELS = 'isbi12/train-labels.tif'
VOXELS_SHA256 = {
    IMAGE: 'b749c4319a9f3b3579359ffcb789c338ea582d6598c3ac87ccea7176a94a7a79',
    LABELS: '5dfab4027f42e4e9ab1e207b17e642e97287fab106985fa4e1eb0c5322de964c',
}
"""Of the stacks in the published archive."""


class Isbi12(VolumeBuilder):
    """One example a section: `image` `[y, x]` uint8 and `membrane` `[y, x]` bool."""

    TITLE = 'ISBI12'
    ABOUT = {
        'description': 'Training stack of the ISBI 2012 EM segmentation challenge.',
        'homepage': 'https://imagej.net/events/isbi-2012-segmentation-challenge',
        'citation': 'Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142; '
        'Cardona et al. 2010, doi:10.1371/journal.pbio.1000502',
    }
    FEATURES = {'image': np.uint8, 'membrane': np.bool_}

    def raw(self, folder: Path) -> Mapping[str, np.ndarray]:
        image = as_uint8_image(read_stack(folder / IMAGE, 'image'), IMAGE)
        labels = read_stack(folder / LABELS, 'labels')
        values = np.unique(labels)
        if not np.isin(values, (0, 255)).all():
            raise InputError(
                f'Expected labels of 0 (membrane) and 255 (cell interior) in {folder / LABELS}, '
                f'found {listed(values.tolist(), 8)}; use the labels as published.'
            )
        return {'image': image, 'membrane': labels == 0}


def load(settings: DataSettings) -> Volume:
    """Loads the ISBI 2012 training stack, first downloading and preparing it where needed.

    In the folder of raw files `isbi12/train-volume.tif` (uint8) and `isbi12/train-labels.tif`
    (0 = membrane, 255 = cell interior) are looked for, or `ISBI-2012-challenge.zip` with both.

    Returns:
        Image and membrane mask in memory, (50, 4, 4) nm; the stack has no instance ids.

    Raises:
        InputError: raw files cannot be had or are unfit, or prepared ones not written or read.
    """
    stacks = prepared_archive(Isbi12, settings, VOXELS_SHA256, archive=ARCHIVE, url=URL)
    volume = Volume('isbi12', stacks['image'], stacks['membrane'], None, RESOLUTION_NM)
    return volume.in_memory()
