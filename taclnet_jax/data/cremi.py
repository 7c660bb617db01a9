"""CREMI: samples A, B and C of adult Drosophila brain with instance ids, through tfds."""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from taclnet_jax.config.data import DataSettings
from taclnet_jax.data.builder import VolumeBuilder, fingerprint, prepared, raw_folder, volume_of_ids
from taclnet_jax.data.cremi_file import IDS, RAW
from taclnet_jax.data.download import fetch
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import Sections, StoredArray, open_array
from taclnet_jax.volumes.sections import Triple, cropped

URL = 'https://cremi.org/static/data'
SHA256 = {
    'A': '4c563d1b78acb2bcfb3ea958b6fe1533422f7f4a19f3e05b600bfa11430b510d',
    'B': '887e85521e00deead18c94a21ad71f278d88a5214c7edeed943130a1f4bb48b8',
    'C': '2874496f224d222ebc29d0e4753e8c458093e1d37bc53acd1b69b19ed1ae7052',
}
"""Of the published files without padding."""


class Cremi(VolumeBuilder):
    """One example a section of a sample: `image` `[y, x]` uint8 and `ids` `[y, x]` uint64.

    The configuration's name begins with the sample's.
    """

    TITLE = 'CREMI'
    ABOUT = {
        'description': 'Training volumes of the CREMI challenge.',
        'homepage': 'https://cremi.org',
        'citation': 'Funke, Saalfeld, Bock, Turaga and Perlman 2016, https://cremi.org',
    }
    FEATURES = {'image': np.uint8, 'ids': np.uint64}

    def raw(self, folder: Path) -> Mapping[str, Sections]:
        return open_sample(find_sample(folder, self.builder_config.name[0]))[0]


def load(settings: DataSettings) -> Volume:
    """Loads samples of CREMI, first downloading and preparing them where needed.

    In the folder of raw files `cremi/sample_A_20160501.hdf` and so on are looked for, or the padded
    `cremi/sample_A_padded_20160501.hdf`, of which the labelled region is taken.

    Returns:
        The samples end to end, each a part: image, ids and the membranes between them, read section
        by section, (40, 4, 4) nm.

    Raises:
        InputError: a sample is unknown, raw files cannot be had or are unfit, or prepared ones not
            written or read.
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
    parts = [
        prepared(Cremi, f'{sample}_{fingerprint(path)}', settings)
        for sample, path in zip(samples, paths, strict=True)
    ]
    return volume_of_ids('cremi', parts, resolutions[0], settings)


def find_sample(folder: Path, sample: str, mirror: str = '') -> Path:
    """The file of a sample: the padded one where only that is there, downloaded if neither is."""
    name = f'cremi/sample_{sample}_20160501.hdf'
    for path in (folder / name, folder / f'cremi/sample_{sample}_padded_20160501.hdf'):
        if path.exists():
            return path
    url = f'{URL}/{Path(name).name}'
    return fetch(url, folder, name, mirror=mirror, sha256=SHA256[sample])


def open_sample(path: Path) -> tuple[dict[str, Sections], Triple]:
    """Opens a file of CREMI.

    Returns:
        The labelled region, `image` and `ids`, and the voxel size (z, y, x) in nm.

    Raises:
        InputError: the file is damaged or incomplete, or the labels lie not voxel on voxel in it.
    """
    raw, ids = open_array(path, 'image', RAW), open_array(path, 'labels', IDS)
    if raw.dtype != np.uint8 or not np.issubdtype(ids.dtype, np.integer):
        raise InputError(
            f'Expected {RAW} of type uint8 and {IDS} of integers in {path}, found {raw.dtype} and '
            f'{ids.dtype}; use the file as published.'
        )
    resolution_nm = _described(raw, 'resolution')
    if resolution_nm != _described(ids, 'resolution'):
        raise InputError(
            f'Expected {RAW} and {IDS} at one resolution in {path}, found {resolution_nm} and '
            f'{ids.resolution_nm} nm; use the file as published.'
        )
    whole = ids.offset_nm is None and ids.shape == raw.shape
    offset_nm = (0.0, 0.0, 0.0) if whole else _described(ids, 'offset')
    exact = np.divide(offset_nm, resolution_nm)
    first = np.rint(exact).astype(int)
    if (
        not np.allclose(exact, first, rtol=0, atol=1e-3)
        or (first < 0).any()
        or (first + ids.shape > raw.shape).any()
    ):
        raise InputError(
            f'Expected {IDS}, {ids.shape} [z, y, x], to begin at a whole voxel of {resolution_nm} '
            f'nm and to lie inside {RAW}, {raw.shape}, in {path}; found the offset {offset_nm} nm. '
            'Use the file as published.'
        )
    return {'image': cropped(raw, first.tolist(), ids.shape), 'ids': ids}, resolution_nm


def _described(array: StoredArray, name: str) -> Triple:
    """This attribute of a dataset, (z, y, x) in nm."""
    value = getattr(array, f'{name}_nm')
    if value is None:
        with h5py.File(array.path) as file:
            found = ', '.join(file[array.dataset].attrs) or 'none'
        raise InputError(
            f'Expected the attribute {name}, (z, y, x) in nm, of {array.dataset} {array.shape} in '
            f'{array.path}; found the attributes {found}. Use the file as published.'
        )
    return value
