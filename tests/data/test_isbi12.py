"""ISBI 2012 through tensorflow-datasets: found, unpacked or downloaded, prepared once, not stale.

What the other published data sets share with it is tested here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from file_server import FileServer

from taclnet_jax.config.data import DataSettings
from taclnet_jax.data import isbi12
from taclnet_jax.data.builder import voxels_sha256
from taclnet_jax.data.isbi12 import ARCHIVE, IMAGE, LABELS, VOXELS_SHA256
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import LazySections, write_array


def load_isbi12(raw: Any, prepared: Any, **options: Any) -> Volume:
    """The volume, of raw files in one folder and prepared data in another."""
    folders = {'data_dir': str(raw or ''), 'prepared_dir': str(prepared)}
    return isbi12.load(DataSettings(**folders, **options))


@pytest.fixture
def real_files(data_dir: Path) -> Path:
    """The folder of raw files, with the published ones of this data set in it."""
    if not (data_dir / 'isbi12').is_dir():
        pytest.skip(f'needs isbi12/ in {data_dir}')
    return data_dir


def write_raw(folder: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A stack of odd size, of more sections than sort alike as text and as numbers."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (12, 21, 34)).astype(np.uint8)
    membrane = rng.random(image.shape) < 0.2
    write_array(folder / IMAGE, image)
    write_array(folder / LABELS, ~membrane)
    return image, membrane


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_raw(tmp_path / 'raw', seed=0)
    return tmp_path / 'raw'


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    return tmp_path / 'prepared'


def versions(prepared: Path) -> list[Path]:
    """What has been prepared whole."""
    return sorted(prepared.glob('isbi12/*/2.0.0'))


def test_sections_come_in_order_with_membranes_where_labels_are_0(tmp_path: Path, prepared: Path):
    image, membrane = write_raw(tmp_path, seed=3)
    for _ in range(2):  # prepares, then reads what was prepared
        volume = load_isbi12(tmp_path, prepared)
        np.testing.assert_array_equal(volume.image, image)
        np.testing.assert_array_equal(volume.membrane, membrane)
    assert volume.name == 'isbi12' and volume.resolution_nm == (50, 4, 4)
    assert volume.ids is None and volume.membrane.dtype == bool


def test_raw_files_are_converted_only_once(raw: Path, prepared: Path, monkeypatch):
    load_isbi12(raw, prepared)
    monkeypatch.setattr(isbi12.Isbi12, 'raw', None)
    assert load_isbi12(os.fspath(raw), os.fspath(prepared)).shape == (12, 21, 34)


@pytest.mark.parametrize('changed', [IMAGE, LABELS])
def test_changed_raw_files_are_prepared_anew(raw: Path, prepared: Path, changed: str):
    before = load_isbi12(raw, prepared)
    original = (raw / changed).read_bytes()
    stack = tifffile.imread(raw / changed)
    stack[7, 20, 33] ^= 255
    status = (raw / changed).stat()
    write_array(raw / changed, stack)
    os.utime(raw / changed, ns=(status.st_atime_ns, status.st_mtime_ns))  # contents alone count
    after = load_isbi12(raw, prepared)
    for name, differs in (('image', changed == IMAGE), ('membrane', changed == LABELS)):
        where = np.argwhere(getattr(before, name) != getattr(after, name)).tolist()
        assert where == ([[7, 20, 33]] if differs else [])
    # The original is still prepared.
    (raw / changed).write_bytes(original)
    np.testing.assert_array_equal(load_isbi12(raw, prepared).image, before.image)
    assert len(versions(prepared)) == 2


@pytest.mark.parametrize('error', [KeyboardInterrupt, MemoryError, RuntimeError])
def test_an_interrupted_preparation_is_not_trusted(
    raw: Path, prepared: Path, monkeypatch, error: type[BaseException]
):
    def first_section_only(z: int, rows: slice, columns: slice) -> np.ndarray:
        if z == 0:
            return image[z]
        (unfinished,) = prepared.glob('isbi12/*/*')  # the name that a kill would leave
        assert unfinished.name.startswith('incomplete.')
        raise error

    image = tifffile.imread(raw / IMAGE)
    with monkeypatch.context() as patch:
        stacks = {
            'image': LazySections(image.shape, np.uint8, first_section_only),
            'membrane': np.zeros(image.shape, bool),
        }
        patch.setattr(isbi12.Isbi12, 'raw', lambda self, folder: stacks)
        with pytest.raises((error, InputError)):
            load_isbi12(raw, prepared)
    assert not versions(prepared)
    np.testing.assert_array_equal(load_isbi12(raw, prepared).image, image)


def test_a_killed_preparation_is_not_trusted(raw: Path, prepared: Path):
    image = load_isbi12(raw, prepared).image
    (whole,) = versions(prepared)
    # What a kill leaves: tensorflow-datasets writes into a folder of another name.
    left = whole.rename(whole.with_name('incomplete.ABC123_2.0.0'))
    (record,) = left.glob('*.array_record*')
    record.write_bytes(record.read_bytes()[:500])
    np.testing.assert_array_equal(load_isbi12(raw, prepared).image, image)
    assert versions(prepared) == [whole]


def test_two_processes_may_prepare_the_same(raw: Path, prepared: Path, tmp_path: Path, monkeypatch):
    load_isbi12(raw, tmp_path / 'other')
    read = isbi12.Isbi12.raw

    def overtaken(self: isbi12.Isbi12, folder: Path):
        shutil.copytree(tmp_path / 'other', prepared, dirs_exist_ok=True)
        return read(self, folder)

    monkeypatch.setattr(isbi12.Isbi12, 'raw', overtaken)
    np.testing.assert_array_equal(load_isbi12(raw, prepared).image, tifffile.imread(raw / IMAGE))
    assert len(versions(prepared)) == 1


@pytest.mark.parametrize('damage', ['cut', 'overwritten', 'deleted', 'no description'])
def test_damaged_prepared_data_are_named(raw: Path, prepared: Path, damage: str):
    load_isbi12(raw, prepared)
    (whole,) = versions(prepared)
    (record,) = whole.glob('*.array_record*')
    if damage == 'cut':
        record.write_bytes(record.read_bytes()[:5000])
    elif damage == 'overwritten':
        data = bytearray(record.read_bytes())
        data[2000] ^= 255
        record.write_bytes(data)
    elif damage == 'deleted':
        record.unlink()
    else:
        (whole / 'dataset_info.json').unlink()
    with pytest.raises(InputError, match='cannot be read .* delete that folder') as caught:
        load_isbi12(raw, prepared)
    assert whole.parent.name in str(caught.value) and str(prepared) in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(raw: Path, tmp_path: Path):
    (tmp_path / 'file').write_text('no folder')
    with pytest.raises(InputError, match='Cannot write the prepared ISBI12 data to .*prepared_dir'):
        load_isbi12(raw, tmp_path / 'file')


@pytest.fixture
def published(tmp_path: Path, monkeypatch) -> bytes:
    """An archive like the published one, whose voxels count as the published ones."""
    write_raw(tmp_path / 'publisher', seed=5)
    return archive_of(tmp_path / 'publisher', monkeypatch)


def archive_of(folder: Path, monkeypatch) -> bytes:
    with zipfile.ZipFile(folder / 'a.zip', 'w') as archive:
        for name in (IMAGE, LABELS):
            archive.write(folder / name, f'ISBI-2012-challenge/{Path(name).name}')
            voxels = voxels_sha256(tifffile.imread(folder / name))
            monkeypatch.setitem(VOXELS_SHA256, name, voxels)
        archive.writestr('ISBI-2012-challenge/test-volume.tif', b'...')
    return (folder / 'a.zip').read_bytes()


def publishers_image(tmp_path: Path) -> np.ndarray:
    return tifffile.imread(tmp_path / 'publisher' / IMAGE)


def test_missing_files_are_downloaded(
    published: bytes, tmp_path: Path, prepared: Path, server: FileServer
):
    server.files[ARCHIVE] = published
    volume = load_isbi12(tmp_path / 'new', prepared, mirror=server.url)
    np.testing.assert_array_equal(volume.image, publishers_image(tmp_path))
    assert sorted(p.name for p in (tmp_path / 'new' / 'isbi12').iterdir()) == [
        Path(name).name for name in (ARCHIVE, LABELS, IMAGE)
    ]
    load_isbi12(tmp_path / 'new', prepared, mirror=server.url)
    assert len(server.requests) == 1


@pytest.mark.parametrize('place', [ARCHIVE, Path(ARCHIVE).name])
def test_an_archive_placed_by_hand_is_unpacked(
    published: bytes, tmp_path: Path, prepared: Path, place: str
):
    (tmp_path / 'new' / 'isbi12').mkdir(parents=True)
    (tmp_path / 'new' / place).write_bytes(published)
    volume = load_isbi12(tmp_path / 'new', prepared)
    np.testing.assert_array_equal(volume.image, publishers_image(tmp_path))


def test_what_was_placed_by_hand_is_not_replaced(
    published: bytes, tmp_path: Path, raw: Path, prepared: Path
):
    (raw / LABELS).unlink()
    (raw / ARCHIVE).write_bytes(published)
    volume = load_isbi12(raw, prepared)
    np.testing.assert_array_equal(volume.image, tifffile.imread(raw / IMAGE))
    labels = tifffile.imread(tmp_path / 'publisher' / LABELS)
    np.testing.assert_array_equal(volume.membrane, labels == 0)


def test_an_archive_with_other_voxels_is_refused(
    published: bytes, tmp_path: Path, prepared: Path, monkeypatch, server: FileServer
):
    monkeypatch.setitem(VOXELS_SHA256, LABELS, '0' * 64)
    server.files[ARCHIVE] = published
    with pytest.raises(InputError, match=f'voxels of sha256 {"0" * 64}; found ') as caught:
        load_isbi12(tmp_path / 'new', prepared, mirror=server.url)
    assert f'unpack the file yourself to {tmp_path / "new" / LABELS}' in str(caught.value)
    assert not (tmp_path / 'new' / LABELS).exists() and not prepared.exists()


def test_a_file_that_cannot_be_had_is_named_with_its_place(
    tmp_path: Path, prepared: Path, server: FileServer
):
    with pytest.raises(InputError, match='404 Client Error: Not Found') as caught:
        load_isbi12(tmp_path / 'new', prepared, mirror=server.url)
    assert f'{server.url}/{ARCHIVE}' in str(caught.value)
    assert f'place it at {tmp_path / "new" / ARCHIVE}' in str(caught.value)
    assert not prepared.exists()


def test_unfit_raw_files_are_refused_before_anything_is_prepared(raw: Path, prepared: Path):
    def refuse(message: str) -> None:
        with pytest.raises(InputError, match=message):
            load_isbi12(raw, prepared)
        assert not versions(prepared)

    image = tifffile.imread(raw / IMAGE)
    membrane = tifffile.imread(raw / LABELS) == 0
    labels = np.where(membrane, 0, 255).astype(np.uint8)
    write_array(raw / LABELS, labels[:11])
    refuse(r'\(12, 21, 34\) and membrane \(11, 21, 34\) differ in size')
    write_array(raw / LABELS, labels // 255)
    refuse(r'0 \(membrane\) and 255 \(cell interior\) .* found 0, 1;')
    write_array(raw / LABELS, image)
    refuse(r'found 0, 1, 2, 3, 4, 5, 6, 7 and 248 more;')
    write_array(raw / LABELS, labels)
    write_array(raw / IMAGE, np.full(image.shape, np.nan, np.float32))
    refuse('NaN or infinity in sections 0, 1, ')
    (raw / IMAGE).write_bytes(b'no pixels')
    refuse('cannot be read as one')


@pytest.mark.slow
def test_the_real_stack_loads_without_tensorflow(real_files: Path, tmp_path: Path):
    # A process of its own: another test may have imported TensorFlow, or hidden it.
    script = (
        'import sys\n'
        'import numpy as np\n'
        'from taclnet_jax.config.data import DataSettings\n'
        'from taclnet_jax.data.isbi12 import load\n'
        f'volume = load(DataSettings(data_dir={str(real_files)!r}, '
        f'prepared_dir={str(tmp_path)!r}))\n'
        "assert not [m for m in sys.modules if m.split('.')[0] == 'tensorflow'], 'imported'\n"
        f'np.savez({str(tmp_path / "got.npz")!r}, image=volume.image, membrane=volume.membrane)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == '' and done.stderr.count('\n') == 1
    assert 'Preparing ISBI12: 100%' in done.stderr and '30/30' in done.stderr
    got = np.load(tmp_path / 'got.npz')
    image, membrane = got['image'], got['membrane']
    np.testing.assert_array_equal(image, tifffile.imread(real_files / IMAGE))
    np.testing.assert_array_equal(membrane, tifffile.imread(real_files / LABELS) == 0)
    assert image.shape == (30, 512, 512)
    assert membrane.mean() == pytest.approx(0.22, abs=0.005)
    assert image[membrane].mean() < image[~membrane].mean() - 40  # membranes are dark
    for name in (IMAGE, LABELS):  # what an archive must hold
        assert voxels_sha256(tifffile.imread(real_files / name)) == VOXELS_SHA256[name]
