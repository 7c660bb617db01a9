"""TIFF stacks and the Volume type."""

from __future__ import annotations

import logging
import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile

from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import read_stack, tiff, write_array

RESOLUTION_NM = (40.0, 4.0, 4.0)


@pytest.fixture
def stack() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 21, 34)).astype(np.uint8)


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32', 'uint32', 'int64', 'float64'])
@pytest.mark.parametrize('depth', [1, 3, 4, 5])
def test_what_is_written_is_read_back(tmp_path: Path, stack: np.ndarray, dtype: str, depth: int):
    array = stack[:depth].astype(dtype)
    write_array(tmp_path / 'stack.tif', array, resolution_nm=RESOLUTION_NM)
    back = read_stack(tmp_path / 'stack.tif')
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_booleans_become_0_and_255(tmp_path: Path, stack: np.ndarray):
    write_array(tmp_path / 'mask.tif', stack > 100)
    np.testing.assert_array_equal(read_stack(tmp_path / 'mask.tif'), (stack > 100) * 255)


def test_imagej_sees_a_calibrated_z_stack(tmp_path: Path, stack: np.ndarray):
    write_array(tmp_path / 'stack.tif', stack, resolution_nm=(50.0, 4.0, 8.0))
    with tifffile.TiffFile(tmp_path / 'stack.tif') as file:
        assert file.imagej_metadata is not None
        assert file.imagej_metadata['slices'] == 5
        assert file.imagej_metadata['unit'] == 'nm'
        assert file.imagej_metadata['spacing'] == 50
        tags = file.pages.first.tags
        assert tags['XResolution'].value == (1, 8)  # pixels per nm
        assert tags['YResolution'].value == (1, 4)


def test_large_stacks_are_bigtiff(tmp_path: Path, stack: np.ndarray, monkeypatch):
    monkeypatch.setattr(tiff, '_BIGTIFF_BYTES', stack.nbytes)
    write_array(tmp_path / 'big.tif', stack, resolution_nm=RESOLUTION_NM)
    with tifffile.TiffFile(tmp_path / 'big.tif') as file:
        assert file.is_bigtiff
    np.testing.assert_array_equal(read_stack(tmp_path / 'big.tif'), stack)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, stack: np.ndarray, monkeypatch
):
    path = tmp_path / 'stack.tif'
    write_array(path, stack)

    def full(*args: object, **kwargs: object) -> None:
        args[0].write(b'half')  # type: ignore[attr-defined]
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(tifffile, 'imwrite', full)
    with pytest.raises(InputError, match=r'stack\.tif: No space left on device'):
        write_array(path, stack + 1)
    np.testing.assert_array_equal(read_stack(path), stack)
    assert os.listdir(tmp_path) == ['stack.tif']


def test_a_folder_that_is_a_file_is_named(tmp_path: Path, stack: np.ndarray):
    (tmp_path / 'file').write_text('no folder')
    with pytest.raises(InputError, match=r'Cannot write .*file/stack\.tif'):
        write_array(tmp_path / 'file' / 'stack.tif', stack)


def test_a_2d_file_is_one_section(tmp_path: Path, stack: np.ndarray):
    tifffile.imwrite(tmp_path / 'flat.tif', stack[0])
    np.testing.assert_array_equal(read_stack(tmp_path / 'flat.tif'), stack[:1])


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32'])
def test_big_endian_files_come_in_native_order(tmp_path: Path, stack: np.ndarray, dtype: str):
    tifffile.imwrite(tmp_path / 'big.tif', stack.astype(dtype), byteorder='>')
    back = read_stack(tmp_path / 'big.tif')
    assert back.dtype.isnative and back.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(back, stack.astype(dtype))


def test_a_hand_made_tiff_is_read(tmp_path: Path):
    # 2 x 3 pixels, big-endian, uncompressed: written by the TIFF 6.0 specification alone.
    pixels = bytes([1, 2, 3, 4, 5, 250])
    entries = [
        (256, 3, 1, 3 << 16),
        (257, 3, 1, 2 << 16),
        (258, 3, 1, 8 << 16),
        (259, 3, 1, 1 << 16),
        (262, 3, 1, 1 << 16),
        (273, 4, 1, 8),
        (277, 3, 1, 1 << 16),
        (278, 3, 1, 2 << 16),
        (279, 4, 1, 6),
    ]
    ifd = struct.pack('>H', len(entries))
    ifd += b''.join(struct.pack('>HHII', *entry) for entry in entries) + bytes(4)
    header = b'MM\0*' + struct.pack('>I', 14)
    (tmp_path / 'hand.tif').write_bytes(header + pixels + ifd)
    np.testing.assert_array_equal(read_stack(tmp_path / 'hand.tif'), [[[1, 2, 3], [4, 5, 250]]])


@pytest.mark.parametrize(
    'options',
    [
        {'metadata': None},
        {'compression': 'zlib'},
        {'imagej': True},
        {'imagej': True, 'compression': 'zlib'},
        {'metadata': None, 'compression': 'zlib'},
    ],
)
@pytest.mark.parametrize('part', [0.0, 0.001, 0.1, 0.5, 0.8])
def test_cut_off_files_are_refused(
    tmp_path: Path, stack: np.ndarray, options: dict[str, object], part: float
):
    path = tmp_path / 'cut.tif'
    tifffile.imwrite(path, stack, photometric='minisblack', **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(InputError, match=r'cut\.tif'):
        read_stack(path)


def test_what_threads_read_at_once_is_told_apart(tmp_path: Path, stack: np.ndarray):
    for name in ('whole', 'cut'):
        tifffile.imwrite(tmp_path / f'{name}.tif', stack, photometric='minisblack', metadata=None)
    data = (tmp_path / 'cut.tif').read_bytes()
    (tmp_path / 'cut.tif').write_bytes(data[: len(data) // 2])
    barrier, heard = threading.Barrier(8), []
    logger, handler = logging.getLogger('tifffile'), logging.Handler()
    handler.emit = heard.append
    logger.addHandler(handler)

    def read(number: int) -> str:
        barrier.wait()
        for _ in range(20):
            try:
                read_stack(tmp_path / ('cut.tif' if number % 2 else 'whole.tif'))
                found = ''
            except InputError as error:
                found = str(error)
            if bool(found) != bool(number % 2):
                return found or 'read'
        return ''

    try:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(read, range(8))) == [''] * 8
        assert logger.propagate and not heard
        logger.error('of another program')
        assert [record.getMessage() for record in heard] == ['of another program']
    finally:
        logger.removeHandler(handler)


def test_a_cut_off_imagej_file_is_read_only_if_all_pixels_are_there(
    tmp_path: Path, stack: np.ndarray
):
    # The pixels come first, then what describes pages that the first page describes already.
    path = tmp_path / 'cut.tif'
    tifffile.imwrite(path, stack, imagej=True)
    data = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        last = file.pages[-1]
        end = last.dataoffsets[0] + last.databytecounts[0]
    assert end < len(data)
    for size in [*range(0, end, 97), end - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match=r'cut\.tif'):
            read_stack(path)
    for size in range(end, len(data), 31):
        path.write_bytes(data[:size])
        try:
            np.testing.assert_array_equal(read_stack(path), stack)
        except InputError as error:
            assert 'cut.tif' in str(error)


def test_unusable_files_are_named_with_the_reason(tmp_path: Path, stack: np.ndarray):
    def refuse(name: str, message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            read_stack(tmp_path / name, 'labels')
        assert name in str(caught.value) and 'labels' in str(caught.value)

    refuse('missing.tif', 'no such file')
    (tmp_path / 'folder.tif').mkdir()
    refuse('folder.tif', 'folder')
    (tmp_path / 'text.tif').write_text('these are not the pixels')
    refuse('text.tif', 'not a TIFF')
    tifffile.imwrite(tmp_path / 'rgb.tif', np.zeros((9, 8, 3), np.uint8), photometric='rgb')
    refuse('rgb.tif', 'colour')
    tifffile.imwrite(tmp_path / 'rgbs.tif', np.zeros((4, 9, 8, 3), np.uint8), photometric='rgb')
    refuse('rgbs.tif', 'colour')
    tifffile.imwrite(tmp_path / 'four.tif', np.stack([stack, stack]))
    refuse('four.tif', '4 axes')
    with tifffile.TiffWriter(tmp_path / 'sizes.tif') as file:
        file.write(stack[0])
        file.write(stack[0, :5])
    refuse('sizes.tif', '2 images')


def test_a_volume_refuses_what_does_not_fit(stack: np.ndarray):
    mask = stack > 100
    volume = Volume('a', stack, mask, stack.astype(np.uint64), RESOLUTION_NM)
    assert volume.shape == (5, 21, 34)
    assert Volume('a', stack, None, None, RESOLUTION_NM).membrane is None
    with pytest.raises(InputError, match=r'\(5, 21, 34\).*\(4, 21, 34\) differ in size'):
        Volume('a', stack, mask[:4], None, RESOLUTION_NM)
    with pytest.raises(InputError, match='ids .* differ in size'):
        Volume('a', stack, mask, np.zeros((5, 21, 33), int), RESOLUTION_NM)
    with pytest.raises(InputError, match='booleans'):
        Volume('a', stack, stack, None, RESOLUTION_NM)
    with pytest.raises(InputError, match='ids as integers'):
        Volume('a', stack, mask, stack.astype(float), RESOLUTION_NM)
    with pytest.raises(InputError, match='uint8'):
        Volume('a', stack.astype(np.uint16), mask, None, RESOLUTION_NM)
    with pytest.raises(InputError, match='voxel size'):
        Volume('a', stack, mask, None, (40.0, 0.0, 4.0))
    with pytest.raises(InputError, match='empty'):
        Volume('a', stack[:0], None, None, RESOLUTION_NM)
