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
from PIL import Image

from taclnet_jax.config.data import CustomSettings, DataSettings, SamplingSettings
from taclnet_jax.data import load_volume
from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.data.windows import split_sections
from taclnet_jax.errors import InputError
from taclnet_jax.evaluation.scoring import check_scored
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
    assert volume.resolution_nm == RESOLUTION
    assert volume.ignore is None or not read_whole(volume.ignore).any()
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
    found = dataclasses.replace(found, unlabelled_beyond_px=8, unlabelled_is_membrane=True)
    trained_on = load_volume(found)
    assert not trained_on.ignore[8, 5:15, 5:15].any() and trained_on.membrane[8, 5:15, 5:15].all()
    for z in range(len(IDS)):
        np.testing.assert_array_equal(trained_on.ignored(z), volume.ignored(z))


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
        (TISSUE.image, IDS.astype(np.float32) / 2, 'integer instance ids.*ignore_ids'),
        (TISSUE.image, IDS.astype(np.int32) - 1, r'found -1 in section 0.*ignore_ids="\(-1,\)"'),
        (TISSUE.image, (IDS.astype(np.int64) - 1).view(np.uint64), f'found {2**64 - 1}'),
        (TISSUE.image, (IDS.astype(np.int32) - 1).view(np.uint32), f'found {2**32 - 1}'),
        (TISSUE.image, (IDS == 0).astype(np.uint8), r'found 0 and 1 alone.*label_kind to membrane'),
        (TISSUE.image, (IDS > 0) * np.uint8(255), 'found 0 and 255 alone.*to interior, if 0 is'),
        (TISSUE.image, 1 + (IDS > 0).astype(np.uint8), 'found 1 and 2 alone'),
        (TISSUE.image, IDS > 0, 'as in a mask|alone'),
        (
            TISSUE.image,
            (IDS > 0).astype(np.uint8) + 2 * (np.indices(IDS.shape)[2] // 4 % 2 == 0),
            '4 values, each in many pieces',
        ),
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


@pytest.mark.parametrize('dtype', [np.float32, np.float64, np.int8])
def test_whole_numbers_are_ids_in_whatever_type(tmp_path: Path, dtype: type):
    volume = load_volume(stacks(tmp_path, (TISSUE.image, (IDS % 100).astype(dtype))))
    np.testing.assert_array_equal(volume.ids, IDS % 100)
    assert volume.ids.dtype.kind == 'i'


def test_floats_beyond_their_exact_whole_numbers_are_no_ids(tmp_path: Path):
    ids = IDS.astype(np.float32)
    ids[4, 5, 6] = 2.0**25
    with pytest.raises(InputError, match='found 33554432.0 in section 4'):
        load_volume(stacks(tmp_path, (TISSUE.image, ids)))


def test_numbers_that_are_no_ids_may_be_ignored(tmp_path: Path):
    ids = IDS.astype(np.int32)
    ids[8, :30] = -1
    volume = load_volume(stacks(tmp_path, (TISSUE.image, ids), ignore_ids=(-1,)))
    assert volume.ignore[8, :30].all() and not volume.ignore[8, 30:].any()
    assert not volume.ids[8, :30].any()


@pytest.mark.parametrize('cache_mb', [100, 0])
def test_masks_are_checked_in_every_section(tmp_path: Path, cache_mb: int):
    mask = np.where(TISSUE.membrane, 255, 0).astype(np.float32)
    image = np.repeat(TISSUE.image, 4, axis=0)  # more sections than are looked at beforehand
    for value in (np.nan, 17):
        labels = np.repeat(mask, 4, axis=0)
        labels[33, 10, 10] = value
        chosen = stacks(tmp_path, (image, labels), label_kind='membrane')
        with pytest.raises(InputError, match=f'found {float(value)} in section 33'):
            read_whole(load_volume(dataclasses.replace(chosen, cache_mb=cache_mb)).membrane)


@pytest.mark.parametrize('kind', ['ids', 'membrane', 'interior'])
@pytest.mark.parametrize('cache_mb', [100, 0])
def test_sections_that_nobody_labelled_are_ignored_and_said(
    tmp_path: Path, caplog, cache_mb: int, kind: str
):
    labels = {'ids': IDS, 'membrane': IDS == 0, 'interior': IDS > 0}[kind].astype(np.uint16)
    labels[[5, 9]] = 0
    chosen = stacks(tmp_path, (TISSUE.image, labels), label_kind=kind)
    volume = load_volume(dataclasses.replace(chosen, cache_mb=cache_mb))
    ignored = read_whole(volume.ignore).all(axis=(1, 2))
    assert np.flatnonzero(ignored).tolist() == [5, 9]
    assert not read_whole(volume.ignore)[~ignored].any()
    assert [volume.has_cells(z) for z in (4, 5, 9)] == [True, False, False]
    sections = 'in 2 of 15 sections' if cache_mb else 'in section 5'
    assert f'Nothing is labelled {sections}' in caplog.text
    assert caplog.text.count('Nothing is labelled') == 1


def test_cells_that_are_all_membrane_are_none_to_score(tmp_path: Path) -> None:
    ids = IDS.copy()
    ids[4] = np.arange(ids.shape[2]) // 2 + 1  # two pixels wide, each beside another
    volume = load_volume(stacks(tmp_path, (TISSUE.image, ids)))
    assert [volume.has_cells(z) for z in (3, 4)] == [True, False]


@pytest.mark.parametrize(
    ('nm', 'given', 'said'),
    [
        ((40.0, 8.0, 8.0), (), 'refused'),
        ((40.0, 4.0, 4.0), (), ''),
        ((40.0, 5.0, 5.0), (), 'That of the first is taken'),
        ((40.0, 8.0, 8.0), RESOLUTION, 'Those of the settings are taken'),
    ],
)
def test_voxel_sizes_of_image_and_labels_must_agree(tmp_path, caplog, nm, given, said):
    write_array(tmp_path / 'image.h5', TISSUE.image, resolution_nm=RESOLUTION)
    write_array(tmp_path / 'labels.h5', IDS.astype(np.uint16), resolution_nm=nm)
    chosen = settings(tmp_path / 'image.h5', tmp_path / 'labels.h5', resolution_nm=given)
    if said == 'refused':
        with pytest.raises(InputError, match='one voxel size.*4.0, 4.0.*8.0, 8.0'):
            load_volume(chosen)
    else:
        assert load_volume(chosen).resolution_nm == RESOLUTION
        assert said in caplog.text and bool(said) == ('one voxel size' in caplog.text)


def folders(path: Path, image: list[int], labels: list[int]) -> DataSettings:
    """Settings of sections in files of these numbers."""
    for name, stack, numbers in (('image', TISSUE.image, image), ('labels', IDS, labels)):
        (path / name).mkdir()
        for section, number in zip(stack, numbers, strict=False):
            Image.fromarray(section.astype(np.uint16 if name == 'labels' else np.uint8)).save(
                path / name / f'{number:03}.png'
            )
    return settings(path / 'image', path / 'labels', resolution_nm=RESOLUTION)


def test_sections_of_other_numbers_are_no_pairs(tmp_path: Path):
    numbers = list(range(16))
    chosen = folders(tmp_path, numbers[:5] + numbers[6:], numbers[:12] + numbers[13:])
    with pytest.raises(InputError, match='section 6 in .*image would go with 5 in .*labels'):
        load_volume(chosen)


def test_no_window_reaches_across_a_gap(tmp_path: Path):
    numbers = [n for n in range(16) if n != 5]
    volume = load_volume(folders(tmp_path, numbers, numbers))
    assert volume.gaps == (5,) and volume.only(2, 9).gaps == (3,)
    split = split_sections(volume, SamplingSettings())
    assert split.train == (range(0, 5),) and split.validation == (range(7, 10),)
    assert split.test == (range(10, 15),)


def test_a_gap_that_leaves_nothing_labelled_to_score_is_said(tmp_path: Path):
    volume = load_volume(folders(tmp_path, range(15), range(15)))
    boxes = ((2, 6, 0, 64, 0, 56), (12, 15, 0, 64, 0, 56))
    volume = dataclasses.replace(volume, gaps=(12,), boxes=boxes)
    with pytest.raises(InputError, match=r'one of the sections \(test sections\), of which none'):
        check_scored(volume, (range(8, 12),), 0, 'test sections')


def test_offsets_must_agree(tmp_path: Path):
    for what, array, offset in (('image', TISSUE.image, 0.0), ('labels', IDS, 400.0)):
        path = tmp_path / f'{what}.h5'
        write_array(path, array, resolution_nm=RESOLUTION, offset_nm=(offset, 0.0, 0.0))
    with pytest.raises(InputError, match='same region.*400'):
        load_volume(settings(tmp_path / 'image.h5', tmp_path / 'labels.h5'))


def test_an_offset_of_one_alone_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write_array(tmp_path / 'image.h5', TISSUE.image, resolution_nm=RESOLUTION)
    for offset, told in ((0.0, False), (400.0, True)):
        place = {'resolution_nm': RESOLUTION, 'offset_nm': (offset, 0.0, 0.0)}
        write_array(tmp_path / 'labels.h5', IDS, **place)
        load_volume(settings(tmp_path / 'image.h5', tmp_path / 'labels.h5'))
        assert ('does not say where it begins' in caplog.text) == told


@pytest.mark.parametrize('value', [np.nan, np.inf, 2.5])
def test_what_is_no_whole_number_is_not_advised_as_an_id(tmp_path: Path, value: float):
    labels = np.asarray(IDS, np.float32)
    labels[3, 4, 5] = value
    write_array(tmp_path / 'image.h5', TISSUE.image, resolution_nm=RESOLUTION)
    write_array(tmp_path / 'labels.h5', labels, resolution_nm=RESOLUTION)
    with pytest.raises(InputError, match='store it as a whole number') as error:
        load_volume(settings(tmp_path / 'image.h5', tmp_path / 'labels.h5'))
    assert 'ignore_ids="' not in str(error.value)


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
            'metadata': {'shape': [800_000, 500, 500], 'chunks': [1, 500, 500], 'dtype': dtype}
            | {'fill_value': int(name == 'labels')},
        }
        store = tensorstore.open(spec, create=True).result()
        # Tissue in a few sections; nothing is written of the others, which are a single cell.
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
