"""Files in CREMI's layout."""

import os
from pathlib import Path

import h5py
import numpy as np

from taclnet_jax.errors import InputError
from taclnet_jax.files import explained, replacing
from taclnet_jax.progress import with_progress
from taclnet_jax.volumes import Sections
from taclnet_jax.volumes.hdf5 import HonestFile

RAW = 'volumes/raw'
IDS = 'volumes/labels/neuron_ids'


def write_cremi(
    path: str | os.PathLike[str],
    image: Sections,
    ids: Sections,
    *,
    resolution_nm: tuple[float, float, float] = (40, 4, 4),
    padding: tuple[int, int, int] = (0, 0, 0),
    synthetic: bool = False,
) -> None:
    """Writes one sample as CREMI publishes them: an HDF5 file, whole or not at all.

    `volumes/raw` (uint8) and `volumes/labels/neuron_ids` (uint64), gzip-compressed, have the
    attribute `resolution`, (z, y, x) in nm; with padding the labels have `offset`, where they begin
    inside raw, in nm. Section z of image and ids are read one after the other.

    Args:
        path: such as `sample_A_20160501.hdf`.
        image: `[z, y, x]` uint8.
        ids: `[z, y, x]` integers of 0 or above, of the image's inner part.
        resolution_nm: voxel size (z, y, x) in nm.
        padding: (z, y, x), voxels of the image before the first of the ids; after the last there
            may be more or fewer.
        synthetic: marks the file as made up, by an attribute `synthetic` of its root.

    Raises:
        InputError: the ids do not fit into the image, or the file cannot be written.
    """
    shape, inner = tuple(image.shape), tuple(ids.shape)
    if not (
        len(shape) == len(inner) == len(padding) == 3
        and all(p >= 0 and p + i <= n for p, i, n in zip(padding, inner, shape, strict=True))
    ):
        raise InputError(
            f'Expected ids that fit into the image of shape {shape} [z, y, x] with padding '
            f'{tuple(padding)} before them, found ids of shape {inner}.'
        )
    path = Path(path)
    with (
        explained(path),
        replacing(path) as partial,
        HonestFile(partial, 'w+b') as target,
        h5py.File(target, 'w') as file,
    ):
        file.attrs['file_format'] = '0.2'
        if synthetic:
            file.attrs['synthetic'] = True
        raw, labels = (
            file.create_dataset(
                name,
                array.shape,
                dtype,
                chunks=(1, *(min(n, 256) for n in array.shape[1:])),  # sections are read singly
                compression='gzip',
            )
            for name, array, dtype in ((RAW, image, np.uint8), (IDS, ids, np.uint64))
        )
        for dataset in (raw, labels):
            dataset.attrs['resolution'] = np.array(resolution_nm, float)
        if any(padding):
            labels.attrs['offset'] = np.array(padding, float) * np.array(resolution_nm, float)
        for z in with_progress(range(shape[0]), shape[0], path.name, 'section'):
            raw[z] = image[z]
            if 0 <= z - padding[0] < inner[0]:
                labels[z - padding[0]] = ids[z - padding[0]]
            file.flush()
            target.raise_failure()
