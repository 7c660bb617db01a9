"""SNEMI3D: membranes from instance ids, and the real volume where it is at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from taclnet_jax.data.isbi13 import load_isbi13, membrane_from_ids
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import write_stack

DATA_DIR = os.environ.get('TACLNET_DATA_DIR', '')
real = pytest.mark.skipif(
    not Path(DATA_DIR, 'snemi3d').is_dir(), reason='needs TACLNET_DATA_DIR with snemi3d/ in it'
)


def test_membranes_lie_between_ids_and_where_there_are_none():
    ids = np.array([[[1, 1, 1, 1, 2, 2, 2, 2, 0, 3, 3]]])
    expected = {0: [0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0], 1: [0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 0]}
    for dilation, membrane in expected.items():
        np.testing.assert_array_equal(membrane_from_ids(ids, dilation), [[membrane]])
        np.testing.assert_array_equal(
            membrane_from_ids(ids.reshape(1, 11, 1), dilation)[0, :, 0], membrane
        )
    np.testing.assert_array_equal(membrane_from_ids(ids), [[expected[1]]])


@pytest.mark.parametrize('dilation', [0, 1, 3])
@pytest.mark.parametrize('dtype', [np.uint16, np.int32, np.uint64])
def test_membranes_are_the_pixels_within_reach_of_a_border(dilation: int, dtype: type):
    rng = np.random.default_rng(0)
    coarse = rng.choice([0, 1, 2, 65535], (3, 3, 4), p=[0.1, 0.3, 0.3, 0.3])
    ids = coarse.repeat(7, axis=1).repeat(9, axis=2).astype(dtype)[:, :-2, :-3]
    expected = ids == 0
    _, height, width = ids.shape
    for z, y, x in np.ndindex(ids.shape):
        for neighbour in ((y + 1, x), (y, x + 1)):
            if neighbour[0] == height or neighbour[1] == width:
                continue
            a, b = ids[z, y, x], ids[z][neighbour]
            if a == b or a == 0 or b == 0:
                continue
            for py, px in ((y, x), neighbour):
                rows, columns = np.ogrid[:height, :width]
                expected[z] |= np.abs(rows - py) + np.abs(columns - px) <= dilation
    np.testing.assert_array_equal(membrane_from_ids(ids, dilation), expected)


def test_sections_do_not_influence_each_other():
    ids = np.stack([np.full((5, 6), 1), np.full((5, 6), 2)])
    assert not membrane_from_ids(ids).any()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / 'snemi3d'
    folder.mkdir()
    write_stack(folder / 'train-input.tif', rng.integers(0, 256, (4, 15, 17)).astype(np.uint8))
    write_stack(folder / 'train-labels.tif', rng.integers(0, 9, (4, 15, 17)).astype(np.uint16))
    return tmp_path


def test_a_volume_comes_with_ids_and_membranes(raw: Path):
    volume = load_isbi13(raw)
    assert volume.name == 'isbi13' and volume.resolution_nm == (30, 6, 6)
    ids = tifffile.imread(raw / 'snemi3d/train-labels.tif')
    np.testing.assert_array_equal(volume.ids, ids)
    np.testing.assert_array_equal(volume.membrane, membrane_from_ids(ids))
    np.testing.assert_array_equal(volume.image, tifffile.imread(raw / 'snemi3d/train-input.tif'))


@pytest.mark.parametrize('name', ['snemi3d/train-input.tif', 'snemi3d/train-labels.tif'])
def test_a_missing_file_is_named_with_where_to_get_it(raw: Path, name: str):
    (raw / name).unlink()
    with pytest.raises(InputError, match='no such file.*zenodo') as caught:
        load_isbi13(raw)
    assert str(raw / name) in str(caught.value)


def test_labels_that_are_no_ids_of_this_volume_are_refused(raw: Path):
    labels = raw / 'snemi3d/train-labels.tif'
    write_stack(labels, np.zeros((4, 15, 17), np.float32))
    with pytest.raises(InputError, match=r'integer ids in .*train-labels\.tif, found float32'):
        load_isbi13(raw)
    write_stack(labels, np.zeros((3, 15, 17), np.uint16))
    with pytest.raises(InputError, match=r'\(4, 15, 17\) .* \(3, 15, 17\) differ in size'):
        load_isbi13(raw)


@real
def test_the_real_volume():
    volume = load_isbi13(DATA_DIR)
    assert volume.shape == (100, 1024, 1024)
    assert volume.ids is not None and volume.membrane is not None
    assert volume.membrane[volume.ids == 0].all()
    assert 0.14 < (volume.ids == 0).mean() < 0.16  # 15 %, says the data's description
    assert 0.16 < volume.membrane.mean() < 0.18
    for z in (0, 57):
        ids, inside = volume.ids[z], ~volume.membrane[z]
        image = volume.image[z]
        assert image[~inside].mean() < image[inside].mean() - 20  # membranes are dark
        for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
            assert (ids[a] == ids[b])[inside[a] & inside[b]].all()
