"""CREMI: samples A, B and C of adult Drosophila brain with instance ids, through tfds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import tensorflow_datasets as tfds

from taclnet_jax.config.data import DataSettings
from taclnet_jax.data.builder import (
    VERSION,
    Prepared,
    VolumeBuilder,
    fingerprint,
    raw_folder,
    volume_of_ids,
)
from taclnet_jax.data.cremi_file import IDS, RAW
from taclnet_jax.data.download import address, fetch
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import LazySections, Sections, StoredArray, open_array

URL = 'https://cremi.org/static/data'
SHA256 = {
    'A': '4c563d1b78acb2bcfb3ea958b6fe1533422f7f4a19f3e05b600bfa11430b510d',
    'B': '887e85521e00deead18c94a21ad71f278d88a5214c7edeed943130a1f4bb48b8',
    'C': '2874496f224d222ebc29d0e4753e8c458093e1d37bc53acd1b69b19ed1ae7052',
}
"""Of the published files without padding."""

_CITATION = """\
@misc{cremi2016,
  title={{CREMI}: {MICCAI} challenge on circuit reconstruction from electron microscopy images},
  author={Funke, Jan and Saalfeld, Stephan and Bock, Davi and Turaga, Srini and Perlman, Eric},
  howpublished={https://cremi.org}, year={2016}
}
"""


@dataclass(eq=False)
class CremiConfig(tfds.core.BuilderConfig):
    """One sample; `name` says of which contents."""

    sample: str = 'A'


class Cremi(VolumeBuilder):
    """One example a section of a sample: `image` `[y, x]` uint8 and `ids` `[y, x]` uint64."""

    TITLE = 'CREMI'
    FEATURES = {'image': np.uint8, 'ids': np.uint64}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f'Place sample_A_20160501.hdf and so on from {URL} in manual_dir/cremi.'
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return self.information(
            description='Training volumes of the CREMI challenge.',
            homepage='https://cremi.org',
            citation=_CITATION,
        )

    def raw(self, folder: Path) -> Mapping[str, Sections]:
        return open_sample(find_sample(folder, self.builder_config.sample))[0]


def load(settings: DataSettings) -> Volume:
    """Loads samples of CREMI, first downloading and preparing them where needed.

    In the folder of raw files `cremi/sample_A_20160501.hdf` and so on are looked for, or the padded
    `cremi/sample_A_padded_20160501.hdf`, of which the labelled region is taken.

    Returns:
        The samples end to end, each a part: image, ids and the membranes between them, read section
        by section, (40, 4, 4) nm.

    Raises:
        InputError: an unknown sample, a raw file cannot be had or is unfit, or the prepared data
            cannot be written or read.
    """
    samples = settings.cremi.samples
    if not samples or len(set(samples)) < len(samples) or not set(samples) <= SHA256.keys():
        raise InputError(
            f'Expected config.cremi.samples to be some of {", ".join(SHA256)}; found {samples}.'
        )
    folder = raw_folder(settings)
    paths = [find_sample(folder, sample, settings.mirror) for sample in samples]
    resolutions = [open_sample(path)[1] for path in paths]
    if len(set(resolutions)) > 1:
        raise InputError(
            'Expected the samples of CREMI at one resolution; found '
            + ', '.join(f'{r} nm in {p}' for r, p in zip(resolutions, paths, strict=True))
            + '. Choose one of them with config.cremi.samples.'
        )
    prepared = []
    for sample, path in zip(samples, paths, strict=True):
        name = f'{sample}_{fingerprint(path)}'
        config = CremiConfig(name=name, version=VERSION, sample=sample)
        prepared.append(Prepared(Cremi, config, settings))
    return volume_of_ids('cremi', prepared, resolutions[0], settings)


def find_sample(folder: Path, sample: str, mirror: str = '') -> Path:
    """The file of a sample: the padded one where only that is there, downloaded if neither is."""
    name = f'cremi/sample_{sample}_20160501.hdf'
    for path in (folder / name, folder / f'cremi/sample_{sample}_padded_20160501.hdf'):
        if path.exists():
            return path
    url = f'{URL}/{Path(name).name}'
    return fetch(address(url, name, mirror), folder / name, sha256=SHA256[sample])


def open_sample(path: Path) -> tuple[dict[str, Sections], tuple[float, float, float]]:
    """Opens a file of CREMI.

    Returns:
        The labelled region, `image` and `ids` of the same shape `[z, y, x]`, and the voxel size
        (z, y, x) in nm.

    Raises:
        InputError: the file is damaged or lacks a dataset or attribute, or the labels do not lie in
            the image, voxel on voxel.
    """
    raw, ids = open_array(path, 'image', RAW), open_array(path, 'labels', IDS)
    if raw.dtype != np.uint8 or not np.issubdtype(ids.dtype, np.integer):
        raise InputError(
            f'Expected {RAW} of type uint8 and {IDS} of integers in {path}, found {raw.dtype} and '
            f'{ids.dtype}; use the file as published.'
        )
    resolution_nm = raw.resolution_nm
    if resolution_nm is None or ids.resolution_nm is None:
        raise _no_attribute(raw if resolution_nm is None else ids, 'resolution')
    if resolution_nm != ids.resolution_nm:
        raise InputError(
            f'Expected {RAW} and {IDS} at one resolution in {path}, found {raw.resolution_nm} and '
            f'{ids.resolution_nm} nm; use the file as published.'
        )
    z_first, y_first, x_first = _first_voxel(raw, ids)

    def labelled(z: int, rows: slice, columns: slice) -> np.ndarray:
        return raw[z + z_first, _moved(rows, y_first), _moved(columns, x_first)]

    def exact(z: int, rows: slice, columns: slice) -> np.ndarray:
        return ids[z, rows, columns].astype(np.uint64)

    image = LazySections(ids.shape, np.uint8, labelled)
    return {'image': image, 'ids': LazySections(ids.shape, np.uint64, exact)}, resolution_nm


def _moved(pixels: slice, by: int) -> slice:
    return slice(pixels.start + by, pixels.stop + by)


def _first_voxel(raw: StoredArray, ids: StoredArray) -> tuple[int, ...]:
    """Where the labels begin in the image, (z, y, x) in voxels."""
    if ids.offset_nm is None:
        if ids.shape != raw.shape:
            raise _no_attribute(ids, 'offset')
        return 0, 0, 0
    exact = np.divide(ids.offset_nm, ids.resolution_nm or 1)
    first = np.rint(exact).astype(int)
    if not np.allclose(exact, first, rtol=0, atol=1e-3):
        raise InputError(
            f'Expected {IDS} in {raw.path} to begin at a whole voxel of {ids.resolution_nm} nm, '
            f'found the offset {ids.offset_nm} nm; use the file as published.'
        )
    if (first < 0).any() or (first + ids.shape > raw.shape).any():
        raise InputError(
            f'Expected {IDS}, {ids.shape} from voxel {tuple(first.tolist())} on, inside {RAW}, '
            f'{raw.shape} [z, y, x], in {raw.path}; use the file as published.'
        )
    return tuple(first.tolist())


def _no_attribute(array: StoredArray, name: str) -> InputError:
    with h5py.File(array.path) as file:
        found = ', '.join(file[array.dataset].attrs) or 'none'
    return InputError(
        f'Expected the attribute {name}, (z, y, x) in nm, of {array.dataset} {array.shape} in '
        f'{array.path}; found the attributes {found}. Use the file as published.'
    )
