"""Volumes of one's own: every format through the configuration, and labels of every kind."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
from commands import arguments, environment

from taclnet_jax.config.data import CustomSettings, DataSettings
from taclnet_jax.data import load_volume
from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import read_whole, write_array

TISSUE = synthetic_volume(3, (15, 64, 56))
IDS = np.asarray(TISSUE.ids)
RESOLUTION = (40.0, 4.0, 4.0)


def settings(image: Path | str, labels: Path | str, **custom: Any) -> DataSettings:
    """Those of one's own volume."""
    return DataSettings(
        dataset='custom', custom=CustomSettings(image=str(image), labels=str(labels), **custom)
    )


def stacks(folder: Path, arrays: tuple[np.ndarray, np.ndarray], **custom: Any) -> DataSettings:
    """The settings of image and labels as TIFF stacks, which it writes."""
    files: dict[str, Any] = {name: folder / f'{name}.tif' for name in ('image', 'labels')}
    for path, array in zip(files.values(), arrays, strict=True):
        write_array(path, array, resolution_nm=RESOLUTION)
    return settings(**files | custom)


@pytest.mark.parametrize('cache_mb', [100, 0])
@pytest.mark.parametrize('name', ['x.tif', 'x.h5', 'x.zarr', 'x.n5', 'x.precomputed'])
def test_every_format_gives_the_same_volume(tmp_path: Path, name: str, cache_mb: int):
    paths = {}
    for what, array in (('image', TISSUE.image), ('labels', IDS.astype(np.uint32))):
        paths[what] = tmp_path / f'{what}_{name}'
        write_array(paths[what], array, resolution_nm=RESOLUTION)
    volume = load_volume(dataclasses.replace(settings(**paths), cache_mb=cache_mb))
    assert isinstance(volume.image, np.ndarray) == (cache_mb > 0)
    assert volume.resolution_nm == RESOLUTION and volume.ignore is None
    np.testing.assert_array_equal(read_whole(volume.image), TISSUE.image)
    np.testing.assert_array_equal(read_whole(volume.ids), IDS)
    membrane = read_whole(volume.membrane)
    assert (membrane[IDS == 0]).all() and not membrane.all()


def test_masks_of_either_polarity_give_the_same_membranes(tmp_path: Path):
    mask = np.where(TISSUE.membrane, 255, 0).astype(np.uint8)
    volume = load_volume(stacks(tmp_path, (TISSUE.image, mask), label_kind='membrane'))
    np.testing.assert_array_equal(volume.membrane, TISSUE.membrane)
    (tmp_path / 'labels.tif').unlink()
    volume = load_volume(stacks(tmp_path, (TISSUE.image, 255 - mask), label_kind='interior'))
    np.testing.assert_array_equal(volume.membrane, TISSUE.membrane)
    assert volume.ids is None


def test_ignored_regions_come_from_a_mask_from_ids_and_from_distance(tmp_path: Path):
    mask = np.zeros(IDS.shape, np.uint8)
    mask[3:5, 10:20] = 1
    write_array(tmp_path / 'ignore.tif', mask)
    chosen = int(np.unique(IDS)[2])
    ids = IDS.copy()
    ids[8, :30, :30] = 0  # nobody labelled this
    ignored = {'ignore': str(tmp_path / 'ignore.tif'), 'ignore_ids': (chosen,)}
    found = stacks(tmp_path, (TISSUE.image, ids), **ignored)
    volume = load_volume(dataclasses.replace(found, unlabelled_beyond_px=8))
    assert volume.ignore[3, 10:20].all() and volume.ignore[ids == chosen].all()
    assert volume.ignore[8, 5:15, 5:15].all() and not volume.ignore[8, :30, 28].all()
    assert not volume.ignore[10][ids[10] != chosen].all()
    assert not (volume.ids == chosen).any()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'image': ''}, 'Expected config.custom.image'),
        ({'labels': 'nowhere.tif'}, 'nowhere.tif'),
        ({'label_kind': 'membrane'}, 'label_kind=ids'),
        ({'resolution_nm': (4, 4)}, 'config.custom.resolution_nm to be 3 numbers in brackets'),
        ({'ignore': 'nowhere.tif'}, 'ignored regions'),
    ],
)
def test_settings_that_do_not_fit_say_what_is_wrong(tmp_path: Path, change: dict, message: str):
    with pytest.raises(InputError, match=message):
        load_volume(stacks(tmp_path, (TISSUE.image, IDS.astype(np.uint16)), **change))


@pytest.mark.parametrize(
    ('image', 'labels', 'message'),
    [
        (TISSUE.image, IDS[:, :60], r'one size.*\(15, 64, 56\).*\(15, 60, 56\)'),
        (TISSUE.image, np.ascontiguousarray(IDS.T), r'order \[x, y, z\]'),
        (TISSUE.image, np.zeros(IDS.shape, np.uint8), 'nothing but membrane'),
        (TISSUE.image, np.ones(IDS.shape, np.uint8), 'no membrane at all'),
        (TISSUE.image, IDS.astype(np.float32), 'integer instance ids'),
        (TISSUE.image.astype(np.float32), IDS, r'in \[0, 1\]'),
        (
            TISSUE.image.transpose(1, 2, 0)[:, :, :9],
            IDS.transpose(1, 2, 0)[:, :, :9],
            r'\[z, y, x\]',
        ),
    ],
)
def test_files_that_do_not_fit_say_what_is_wrong(
    tmp_path: Path, image: np.ndarray, labels: np.ndarray, message: str
):
    with pytest.raises(InputError, match=message):
        load_volume(stacks(tmp_path, (image, labels)))


def test_offsets_must_agree(tmp_path: Path):
    for what, array, offset in (('image', TISSUE.image, 0.0), ('labels', IDS, 400.0)):
        path = tmp_path / f'{what}.h5'
        write_array(path, array, resolution_nm=RESOLUTION, offset_nm=(offset, 0.0, 0.0))
    with pytest.raises(InputError, match='same region.*400'):
        load_volume(settings(tmp_path / 'image.h5', tmp_path / 'labels.h5'))


def test_a_resolution_has_to_come_from_somewhere(tmp_path: Path):
    for what, array in (('image', TISSUE.image), ('labels', IDS.astype(np.uint16))):
        write_array(tmp_path / what, array, format='png')
    folders = tmp_path / 'image', tmp_path / 'labels'
    with pytest.raises(InputError, match='resolution_nm'):
        load_volume(settings(*folders))
    assert load_volume(settings(*folders, resolution_nm=(40, 4, 4))).resolution_nm == (40, 4, 4)


@pytest.mark.slow
def test_a_volume_of_200_gb_trains_in_bounded_memory(tmp_path: Path):
    for name, dtype in (('image', '|u1'), ('labels', '<u8')):
        spec = {
            'driver': 'zarr',
            'kvstore': {'driver': 'file', 'path': str(tmp_path / f'{name}.zarr')},
            'metadata': {'shape': [800_000, 500, 500], 'chunks': [1, 500, 500], 'dtype': dtype},
        }
        store = tensorstore.open(spec, create=True).result()
        # Tissue in a few sections; nothing is written of the others, which read as 0.
        for z in (0, 400_000, 799_999):
            tissue = TISSUE.image[0] if name == 'image' else IDS[0]
            store[z, :64, :56] = tissue.astype(store.dtype.numpy_dtype)
    command = arguments(
        tmp_path / 'run',
        dataset='custom',
        custom__image=tmp_path / 'image.zarr',
        custom__labels=tmp_path / 'labels.zarr',
        custom__resolution_nm=(40, 4, 4),
        slices=1,
        model__hidden=(),
        crops_limit=16,
        phase_two__epochs=1,
        evaluate__threshold_sections=1,
        evaluate__test_sections=1,
        validation_sections=3,
    )
    # A small process between: what this one weighs counts as the peak of whatever it starts.
    script = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
    done = subprocess.run(
        [sys.executable, '-c', script, sys.executable, '-m', 'taclnet_jax.main', *command],
        env=environment(),
        capture_output=True,
        text=True,
    )
    status, kilobytes = map(int, done.stdout.split())
    assert status == 0, done.stderr
    assert kilobytes < 2e6
