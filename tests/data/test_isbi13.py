"""SNEMI3D: membranes and unlabelled tissue from instance ids, and the real volume."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from file_server import FileServer

from taclnet_jax.config.data import DataSettings
from taclnet_jax.data import isbi13
from taclnet_jax.data.builder import voxels_sha256
from taclnet_jax.data.isbi13 import ARCHIVE, IMAGE, LABELS, VOXELS_SHA256
from taclnet_jax.data.labels import membranes_from_ids
from taclnet_jax.data.resolution import halved
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import read_whole


def load_isbi13(raw: Any, prepared: Any, **options: Any) -> Volume:
    """The volume, of raw files in one folder and prepared data in another."""
    options = {'unlabelled_beyond_px': 8} | options
    folders = {'data_dir': str(raw or ''), 'prepared_dir': str(prepared)}
    return isbi13.load(DataSettings(**folders, **options))


@pytest.fixture
def real_files(data_dir: Path) -> Path:
    """The folder of raw files, with the published ones of this data set in it."""
    if not (data_dir / 'snemi3d').is_dir():
        pytest.skip(f'needs snemi3d/ in {data_dir}')
    return data_dir


def write_raw(folder: Path, image: np.ndarray, ids: np.ndarray) -> None:
    (folder / 'snemi3d').mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(folder / IMAGE, image, photometric='minisblack')
    tifffile.imwrite(folder / LABELS, ids, photometric='minisblack')


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 9, (4, 15, 17)).astype(np.uint16) * 8191
    write_raw(tmp_path / 'raw', rng.integers(0, 256, (4, 15, 17)).astype(np.uint8), ids)
    return tmp_path / 'raw'


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    return tmp_path / 'prepared'


def test_a_volume_comes_with_ids_and_membranes(raw: Path, prepared: Path, monkeypatch):
    image, ids = tifffile.imread(raw / IMAGE), tifffile.imread(raw / LABELS)
    for _ in range(2):  # prepares, then reads what was prepared
        volume = load_isbi13(raw, prepared)
        np.testing.assert_array_equal(read_whole(volume.image), image)
        np.testing.assert_array_equal(read_whole(volume.ids), ids)
        np.testing.assert_array_equal(
            read_whole(volume.membrane), read_whole(membranes_from_ids(ids, 1))
        )
        monkeypatch.setattr(isbi13.Isbi13, 'raw', None)
    assert volume.name == 'isbi13' and volume.resolution_nm == (30, 6, 6)
    assert volume.parts == (range(4),) and volume.ids.dtype == np.uint32


def test_zeros_wider_than_membranes_are_ignored(tmp_path: Path, prepared: Path):
    ids = np.zeros((3, 30, 40), np.uint16)
    ids[0, 10:12, 15:25] = 7
    ids[1, :, :] = 3
    write_raw(tmp_path, np.zeros(ids.shape, np.uint8), ids)
    y, x = np.mgrid[:30, :40]
    dy, dx = np.clip(y, 10, 11) - y, np.clip(x, 15, 24) - x
    # Wherever a disc without ids reaches.
    centres = np.argwhere(np.hypot(dy, dx) > 8)
    wide = np.any([np.hypot(y - a, x - b) <= 8 for a, b in centres], axis=0)
    expected = np.stack([wide, np.zeros_like(y, bool), np.ones_like(y, bool)])
    assert (np.hypot(dy, dx)[wide] < 8).any()
    np.testing.assert_array_equal(read_whole(load_isbi13(tmp_path, prepared).ignore), expected)
    assert load_isbi13(tmp_path, prepared, unlabelled_beyond_px=0).ignore is None
    trained_on = load_isbi13(tmp_path, prepared, unlabelled_is_membrane=True)
    assert trained_on.ignore is None and all(
        trained_on.membrane[z][expected[z]].all() for z in (0, 2)
    )
    np.testing.assert_array_equal(np.stack([trained_on.ignored(z) for z in range(3)]), expected)
    half = halved(trained_on)
    assert half.ignore is None and half.ignored(0)[expected[0, ::2, ::2]].all()


@pytest.mark.parametrize('how', ['downloaded', 'one archive', 'an archive each'])
def test_files_come_out_of_archives(
    raw: Path, tmp_path: Path, prepared: Path, monkeypatch, how: str, server: FileServer
):
    new = tmp_path / 'new' / 'snemi3d'
    new.mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / 'snemi.zip', 'w') as archive:
        for name, inside in ((IMAGE, 'image/train-input.tif'), (LABELS, 'seg/train-labels.tif')):
            archive.write(raw / name, inside)
            voxels = voxels_sha256(tifffile.imread(raw / name))
            monkeypatch.setitem(VOXELS_SHA256, name, voxels)
            if how == 'an archive each':
                with zipfile.ZipFile((tmp_path / 'new' / name).with_suffix('.zip'), 'w') as own:
                    own.write(raw / name, Path(name).name)
    server.files[ARCHIVE] = (tmp_path / 'snemi.zip').read_bytes()
    if how == 'one archive':
        (tmp_path / 'snemi.zip').rename(new / 'snemi.zip')
    volume = load_isbi13(new.parent, prepared, mirror=server.url)
    np.testing.assert_array_equal(read_whole(volume.ids), tifffile.imread(raw / LABELS))
    assert [status for _, status in server.requests] == ([200] if how == 'downloaded' else [])


def test_a_file_that_cannot_be_had_is_named_with_its_place(
    raw: Path, prepared: Path, server: FileServer
):
    (raw / LABELS).unlink()
    with pytest.raises(InputError, match='404 Client Error: Not Found') as caught:
        load_isbi13(raw, prepared, mirror=server.url)
    assert f'place it at {raw / ARCHIVE}' in str(caught.value)


@pytest.mark.parametrize(
    ('labels', 'message'),
    [
        (np.zeros((4, 15, 17), np.float32), r'integer ids .*train-labels\.tif, found float32'),
        (np.zeros((3, 15, 17), np.uint16), r'\(4, 15, 17\) .* \(3, 15, 17\) differ in size'),
        (
            np.full((4, 15, 17), -3, np.int16),
            r'ids from 0 to 4294967295 in .*, found int16 from -3 to -3',
        ),
    ],
)
def test_labels_that_are_no_ids_of_this_volume_are_refused(
    raw: Path, prepared: Path, labels: np.ndarray, message: str
):
    tifffile.imwrite(raw / LABELS, labels, photometric='minisblack')
    with pytest.raises(InputError, match=message):
        load_isbi13(raw, prepared)


def test_the_real_files_are_the_published_ones(real_files: Path):
    for name, dtype in ((IMAGE, np.uint8), (LABELS, np.uint16)):
        with tifffile.TiffFile(real_files / name) as file:
            assert file.series[0].shape == (100, 1024, 1024) and file.series[0].dtype == dtype
    # The labels' sum stands for both: this one is read in a second.
    assert voxels_sha256(tifffile.imread(real_files / LABELS)) == VOXELS_SHA256[LABELS]


def test_real_sections(real_files: Path, tmp_path: Path, prepared: Path):
    keys = [0, 57, 99]
    image = tifffile.imread(real_files / IMAGE, key=keys)
    write_raw(tmp_path, image, tifffile.imread(real_files / LABELS, key=keys))
    volume = load_isbi13(tmp_path, prepared).in_memory()
    ids, membrane, ignore = volume.ids, volume.membrane, volume.ignore
    assert ids is not None and membrane is not None and ignore is not None
    assert membrane[ids == 0].all() and not ignore[ids > 0].any()
    assert 0.1 < (ids == 0).mean() < 0.2 and 0.005 < ignore.mean() < 0.08
    for z in range(3):
        inside = ~membrane[z]
        border = membrane[z] & ~ignore[z]
        assert image[z][border].mean() < image[z][inside].mean() - 20  # membranes are dark
        for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
            assert (ids[z][a] == ids[z][b])[inside[a] & inside[b]].all()
