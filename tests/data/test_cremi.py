"""CREMI: files in its layout, padded or not, downloaded, prepared and read as one volume."""

from __future__ import annotations

import hashlib
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from file_server import FileServer

from taclnet_jax.config.data import CremiSettings, DataSettings
from taclnet_jax.data import builder, cremi, training_volume
from taclnet_jax.data.cremi_file import IDS, RAW, write_cremi
from taclnet_jax.data.deformation import read_mirrored
from taclnet_jax.data.labels import membranes_from_ids, unlabelled_far_from_ids
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import read_whole, section_shape


def load_cremi(raw: Any, prepared: Any, **options: Any) -> Volume:
    """The volume, of raw files in one folder and prepared data in another."""
    samples = options.pop('samples', ('A', 'B', 'C'))
    options['cremi'] = CremiSettings(samples=tuple(samples))
    folders = {'data_dir': str(raw or ''), 'prepared_dir': str(prepared)}
    return cremi.load(DataSettings(**folders, **options))


SHAPE = 6, 96, 80
NAMES = {s: f'cremi/sample_{s}_20160501.hdf' for s in 'ABC'}
PADDED = {s: f'cremi/sample_{s}_padded_20160501.hdf' for s in 'ABC'}


def tissue(seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Any image, and ids of rectangular cells: some 0, some too large for 32 bits."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, shape).astype(np.uint8)
    z, y, x = shape
    values = np.array([0, 1, 2, 2**32 + 1, 2**53 + 1, 2**64 - 1], np.uint64)
    cells = values[rng.integers(0, len(values), (z, -(-y // 16), -(-x // 16)))]
    return image, cells.repeat(16, axis=1).repeat(16, axis=2)[:, :y, :x]


def write_sample(folder: Path, sample: str, seed: int, **options: object) -> tuple[np.ndarray, ...]:
    image, ids = tissue(seed)
    write_cremi(folder / NAMES[sample], image, ids, **options)
    return image, ids


def write_padded(folder: Path, sample: str, seed: int) -> tuple[np.ndarray, ...]:
    """The sample of this seed with context around it: 2, 9 and 5 voxels before, others after."""
    image, ids = tissue(seed)
    context = np.random.default_rng(seed + 100).integers(0, 256, (11, 110, 87)).astype(np.uint8)
    context[2:8, 9:105, 5:85] = image
    write_cremi(folder / PADDED[sample], context, ids, padding=(2, 9, 5))
    return image, ids


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for seed, sample in enumerate('ABC'):
        write_sample(tmp_path / 'raw', sample, seed)
    return tmp_path / 'raw'


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    return tmp_path / 'prepared'


def test_samples_lie_end_to_end_with_exact_ids(raw: Path, prepared: Path):
    image, ids = (np.concatenate(stacks) for stacks in zip(*map(tissue, range(3)), strict=True))
    for _ in range(2):  # prepares, then reads what was prepared
        volume = load_cremi(raw, prepared)
        np.testing.assert_array_equal(read_whole(volume.image), image)
        np.testing.assert_array_equal(read_whole(volume.ids), ids)
        np.testing.assert_array_equal(
            read_whole(volume.membrane), read_whole(membranes_from_ids(ids, 1))
        )
        np.testing.assert_array_equal(volume.image[13, 5:20, 30:77], image[13, 5:20, 30:77])
    assert volume.name == 'cremi' and volume.resolution_nm == (40, 4, 4)
    assert volume.parts == (range(6), range(6, 12), range(12, 18)) and volume.ignore is None


def test_some_samples_in_their_order(raw: Path, prepared: Path):
    (raw / NAMES['B']).unlink()  # is not asked for
    volume = load_cremi(raw, prepared, samples=('C', 'A'))
    np.testing.assert_array_equal(
        read_whole(volume.image), np.concatenate([tissue(2)[0], tissue(0)[0]])
    )
    assert len(volume.parts) == 2


def test_of_padded_files_the_labelled_region_is_used(tmp_path: Path, prepared: Path):
    for seed, sample in enumerate('ABC'):
        write_padded(tmp_path, sample, seed)
    volume = load_cremi(tmp_path, prepared)
    image, ids = (np.concatenate(stacks) for stacks in zip(*map(tissue, range(3)), strict=True))
    np.testing.assert_array_equal(read_whole(volume.image), image)
    np.testing.assert_array_equal(read_whole(volume.ids), ids)


def test_how_wide_membranes_are_and_what_is_ignored_can_be_chosen(raw: Path, prepared: Path):
    ids = tissue(0)[1]
    for dilation in (0, 3):
        volume = load_cremi(raw, prepared, samples='A', membrane_dilation_px=dilation)
        expected = read_whole(membranes_from_ids(ids, dilation))
        np.testing.assert_array_equal(read_whole(volume.membrane), expected)
    volume = load_cremi(raw, prepared, samples='A', unlabelled_beyond_px=3)
    expected = read_whole(unlabelled_far_from_ids(ids, 3))
    np.testing.assert_array_equal(read_whole(volume.ignore), expected)
    assert expected.any()


def test_several_threads_may_read(raw: Path, prepared: Path):
    volume = load_cremi(raw, prepared, cache_mb=0)  # so that every read goes to the file
    image, ids = (np.concatenate(stacks) for stacks in zip(*map(tissue, range(3)), strict=True))
    order = np.random.default_rng(0).integers(0, 18, 300).tolist()

    def same(z: int) -> bool:
        return bool((volume.image[z] == image[z]).all() and (volume.ids[z] == ids[z]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(same, order))


def test_sections_read_before_are_kept(raw: Path, prepared: Path, monkeypatch):
    volume = load_cremi(raw, prepared)
    image, membrane = read_whole(volume.image), read_whole(volume.membrane)
    for file in prepared.rglob('*.array_record*'):
        file.write_bytes(b'')
    np.testing.assert_array_equal(read_whole(volume.image), image)
    np.testing.assert_array_equal(read_whole(volume.membrane), membrane)


def test_missing_files_come_from_a_mirror_and_are_checked(
    raw: Path, tmp_path: Path, prepared: Path, monkeypatch, server: FileServer
):
    server.files = {name: (raw / name).read_bytes() for name in NAMES.values()}
    data_dir = tmp_path / 'empty'
    with pytest.raises(InputError, match=f'expected {cremi.SHA256["A"]}') as caught:
        load_cremi(data_dir, prepared, mirror=server.url)
    assert f'place it at {data_dir / NAMES["A"]}' in str(caught.value)
    assert not (data_dir / NAMES['A']).exists() and not prepared.exists()

    for sample, name in NAMES.items():
        monkeypatch.setitem(cremi.SHA256, sample, hashlib.sha256(server.files[name]).hexdigest())
    server.requests.clear()
    write_padded(data_dir, 'B', 1)  # is there already
    volume = load_cremi(data_dir, prepared, mirror=server.url)
    image, ids = (np.concatenate(stacks) for stacks in zip(*map(tissue, range(3)), strict=True))
    np.testing.assert_array_equal(read_whole(volume.image), image)
    np.testing.assert_array_equal(read_whole(volume.ids), ids)
    load_cremi(data_dir, prepared, mirror=server.url)
    assert server.requests == [(NAMES['A'], 200), (NAMES['C'], 200)]


def test_without_a_folder_files_go_beside_the_prepared_data(
    raw: Path, prepared: Path, monkeypatch, server: FileServer
):
    server.files[NAMES['A']] = contents = (raw / NAMES['A']).read_bytes()
    monkeypatch.setitem(cremi.SHA256, 'A', hashlib.sha256(contents).hexdigest())
    load_cremi(None, prepared, samples='A', mirror=server.url)
    assert (prepared / 'downloads' / 'manual' / NAMES['A']).read_bytes() == contents
    assert load_cremi('', prepared, samples='A').shape == SHAPE


def test_without_a_mirror_the_publisher_is_asked(tmp_path: Path, prepared: Path, monkeypatch):
    asked = []
    monkeypatch.setattr(cremi, 'fetch', lambda url, *_, **options: asked.append(url) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        load_cremi(tmp_path, prepared, samples='B')
    assert asked == ['https://cremi.org/static/data/sample_B_20160501.hdf']


@pytest.mark.parametrize('samples', [(), ('A', 'A'), ('D',), 'AD'])
def test_samples_that_there_are_not_are_refused(raw: Path, prepared: Path, samples: object):
    with pytest.raises(InputError, match=r'config\.cremi\.samples to be some of A, B, C; found'):
        load_cremi(raw, prepared, samples=samples)


def test_samples_of_different_resolution_are_refused(raw: Path, prepared: Path):
    write_sample(raw, 'B', 1, resolution_nm=(40, 8, 8))
    with pytest.raises(InputError, match=r'at one resolution; .*\(40.0, 8.0, 8.0\) nm in .*_B_'):
        load_cremi(raw, prepared)


def test_samples_of_different_size_keep_it(raw: Path, prepared: Path):
    image, ids = tissue(1)
    write_cremi(raw / NAMES['B'], image[:, :80], ids[:, :80])
    volume = load_cremi(raw, prepared)
    assert volume.shape == (18, 96, 80)
    np.testing.assert_array_equal(volume.image[6], image[0, :80])
    np.testing.assert_array_equal(volume.ids[6], ids[0, :80])
    assert volume.membrane[5].shape == volume.membrane[12].shape == (96, 80)
    membrane = membranes_from_ids(ids[:, :80])
    np.testing.assert_array_equal(volume.membrane[6], membrane[0])
    # As misaligned sections are read, mirrored beyond their own border.
    size = section_shape(volume.membrane, 6)
    assert size == (80, 80)
    crop = read_mirrored(volume.membrane, 6, (60, 60), (32, 32))
    mirrored = np.pad(membrane[0], ((0, 40), (0, 40)), mode='reflect')
    np.testing.assert_array_equal(crop, mirrored[60:92, 60:92])
    halves = training_volume(volume, 2)
    for z in range(volume.shape[0]):
        assert halves.membrane[z].shape == halves.image[z].shape


@pytest.mark.parametrize(
    ('trouble', 'message'),
    [
        ('no raw', rf"'{RAW}' in .*found {IDS} \(6, 96, 80\) uint64"),
        ('no ids', rf"'{IDS}' in .*found {RAW} \(6, 96, 80\) uint8"),
        ('raw has no resolution', rf'attribute resolution, .* of {RAW} .*attributes units\.'),
        ('ids have no resolution', rf'attribute resolution, .* of {IDS} .*attributes none\.'),
        ('two resolutions', r'at one resolution .*\(40.0, 4.0, 4.0\) and \(40.0, 8.0, 8.0\) nm'),
        ('crop without offset', rf'attribute offset, .* of {IDS} \(4, 96, 80\).*resolution\.'),
        ('half a voxel', r'whole voxel of \(40.0, 4.0, 4.0\) nm .* offset \(40.0, 2.0, 0'),
        ('too far', r'\(4, 96, 80\) .* inside .*\(6, 96, 80\).* found the offset \(120.0, 0.0, 0'),
        ('negative', r'inside .* found the offset \(-40.0, 0.0, 0'),
        ('16 bits', 'type uint8 and .* of integers in .*, found uint16 and uint64'),
        ('cut', 'damaged or no HDF5'),
        ('a web page', 'HDF5'),
    ],
)
def test_unfit_files_are_described(tmp_path: Path, prepared: Path, trouble: str, message: str):
    path = tmp_path / NAMES['A']
    write_sample(tmp_path, 'A', 0)
    if trouble == 'cut':
        path.write_bytes(path.read_bytes()[:20_000])
    elif trouble == 'a web page':
        path.write_text('<html>the certificate of this site has expired</html>')
    else:
        with h5py.File(path, 'a') as file:
            crop = file[IDS][:4]
            if trouble in ('crop without offset', 'half a voxel', 'too far', 'negative'):
                del file[IDS]
                file[IDS] = crop
                file[IDS].attrs['resolution'] = [40.0, 4.0, 4.0]
            offsets = {'half a voxel': (40, 2, 0), 'too far': (120, 0, 0), 'negative': (-40, 0, 0)}
            if trouble in offsets:
                file[IDS].attrs['offset'] = np.array(offsets[trouble], float)
            elif trouble == 'no raw':
                del file[RAW]
            elif trouble == 'no ids':
                del file[IDS]
            elif trouble == 'raw has no resolution':
                del file[RAW].attrs['resolution']
                file[RAW].attrs['units'] = 'nm'
            elif trouble == 'ids have no resolution':
                del file[IDS].attrs['resolution']
            elif trouble == 'two resolutions':
                file[IDS].attrs['resolution'] = [40.0, 8.0, 8.0]
            elif trouble == '16 bits':
                del file[RAW]
                file[RAW] = np.zeros(SHAPE, np.uint16)
                file[RAW].attrs['resolution'] = [40.0, 4.0, 4.0]
    with pytest.raises(InputError, match=message) as caught:
        load_cremi(tmp_path, prepared, samples='A')
    assert str(path) in str(caught.value) and not prepared.exists()


def test_an_offset_of_nothing_may_be_given(tmp_path: Path, prepared: Path):
    image, _ = write_sample(tmp_path, 'A', 0)
    with h5py.File(tmp_path / NAMES['A'], 'a') as file:
        file[IDS].attrs['offset'] = [0, 0, 0]
    volume = load_cremi(tmp_path, prepared, samples='A')
    np.testing.assert_array_equal(read_whole(volume.image), image)


def test_sections_come_from_several_files_in_order(raw: Path, prepared: Path, monkeypatch):
    monkeypatch.setattr(builder, '_FILE_BYTES', 150_000)  # two sections
    volume = load_cremi(raw, prepared, samples='A')
    assert len(list(prepared.rglob('*.array_record*'))) == 3
    np.testing.assert_array_equal(read_whole(volume.image), tissue(0)[0])


def test_memory_does_not_grow_with_the_number_of_sections(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(builder, '_FILE_BYTES', 500_000)
    section = 96 * 100 * 9  # bytes of image and ids
    peaks = []
    for depth in (10, 10, 60):  # the first one pays for what is imported late
        image, ids = tissue(0, (depth, 96, 100))
        folder = tmp_path / str(len(peaks))
        write_cremi(folder / NAMES['A'], image, ids)
        del image, ids
        tracemalloc.start()
        try:
            load_cremi(folder, folder / 'prepared', samples='A')
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    _, few, many = peaks
    assert many < few + 2 * section  # 50 sections more
    assert many < 4 * 500_000
