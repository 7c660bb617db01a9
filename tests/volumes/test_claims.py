"""What files claim and do not have: said where it can be right, refused where it cannot."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from taclnet_jax.errors import InputError, be_strict
from taclnet_jax.volumes import open_array, read_whole, write_array

STACK = np.random.default_rng(0).integers(1, 256, (6, 40, 50)).astype(np.uint8)


@pytest.fixture
def strict() -> Iterator[None]:
    be_strict(True)
    yield
    be_strict(False)


def remove_chunk(folder: Path) -> None:
    """The first of those that are no metadata."""
    names = ('zarr.json', 'attributes.json', 'info', '.zarray', '.zgroup', '.zattrs')
    files = [f for f in folder.rglob('*') if f.is_file() and f.name not in names]
    sorted(files)[0].unlink()


@pytest.mark.parametrize('format', ['zarr2', 'zarr3', 'n5', 'precomputed'])
def test_lost_chunks_are_counted(tmp_path, caplog, format):
    path = tmp_path / 'a'
    array = STACK if format != 'precomputed' else np.ascontiguousarray(STACK[:, :32, :32])
    write_array(path, array, format=format, chunk=(2, 16, 16), resolution_nm=(40, 4, 4))
    chunks = 3 * -(-array.shape[1] // 16) * -(-array.shape[2] // 16)
    open_array(path)
    assert not caplog.records
    level = next((level for level in ('0', 's0', '4_4_40') if (path / level).is_dir()), '')
    remove_chunk(path / level)
    open_array(path)
    assert f'1 of {chunks} chunks of the image {path}' in caplog.text


def test_blank_chunks_that_were_written_are_not_lost(tmp_path, caplog):
    write_array(tmp_path / 'a.zarr', np.zeros_like(STACK), chunk=(2, 16, 16))
    open_array(tmp_path / 'a.zarr')
    assert not caplog.records


def test_shards_count_as_chunks(tmp_path, caplog):
    options = {'chunks': (2, 20, 25), 'shards': (6, 20, 50)}
    zarr.create_array(tmp_path / 'a.zarr', data=STACK, **options)
    open_array(tmp_path / 'a.zarr')
    assert not caplog.records
    (tmp_path / 'a.zarr/c/0/1/0').unlink()
    open_array(tmp_path / 'a.zarr')
    assert '1 of 2 chunks' in caplog.text


def test_what_hdf5_does_not_hold_is_counted(tmp_path, caplog):
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        stored = file.create_dataset('m', STACK.shape, 'u1', chunks=(2, 40, 50))
        stored[:2] = 1
    open_array(tmp_path / 'a.h5')
    assert '2 of 3 chunks' in caplog.text
    with h5py.File(tmp_path / 'b.h5', 'w') as file:
        file.create_dataset('m', STACK.shape, 'u1')
    open_array(tmp_path / 'b.h5')
    assert '1 of 1 chunks' in caplog.text


def test_lost_sources_of_virtual_sets_are_counted(tmp_path, caplog):
    layout = h5py.VirtualLayout(STACK.shape, 'u1')
    for z, name in enumerate(('one.h5', 'two.h5')):
        with h5py.File(tmp_path / name, 'w') as file:
            file['m'] = STACK[3 * z : 3 * z + 3]
        layout[3 * z : 3 * z + 3] = h5py.VirtualSource(name, 'm', (3, 40, 50))
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file.create_virtual_dataset('m', layout)
    np.testing.assert_array_equal(read_whole(open_array(tmp_path / 'v.h5')), STACK)
    assert not caplog.records
    (tmp_path / 'two.h5').unlink()
    open_array(tmp_path / 'v.h5')
    assert '1 of 2 files' in caplog.text and 'two.h5' in caplog.text


def test_strips_of_a_tiff_that_are_not_stored_are_counted(tmp_path, caplog):
    path = tmp_path / 'a.tif'
    tifffile.imwrite(path, STACK, rowsperstrip=10, compression='zlib', metadata=None)
    with tifffile.TiffFile(path, mode='r+b') as file:
        tag = file.pages[1].tags['StripByteCounts']
        tag.overwrite((0, *tag.value[1:]))
    open_array(path)
    assert '1 strips or tiles' in caplog.text


def test_strict_refuses_what_is_otherwise_told_once(tmp_path, caplog, strict):
    write_array(tmp_path / 'a.zarr', STACK, chunk=(2, 16, 16))
    remove_chunk(tmp_path / 'a.zarr' / '0')
    with pytest.raises(InputError, match='chunks of the image.*--strict'):
        open_array(tmp_path / 'a.zarr')
    be_strict(False)
    for _ in range(2):
        open_array(tmp_path / 'a.zarr')
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize('compression', [None, 'zlib'])
def test_a_tiff_of_a_few_bytes_cannot_be_a_terabyte(tmp_path, compression):
    path = tmp_path / 'a.tif'
    tifffile.imwrite(path, STACK[0, :4, :4], metadata=None, compression=compression)
    with tifffile.TiffFile(path, mode='r+b') as file:
        for name in ('ImageWidth', 'ImageLength', 'RowsPerStrip'):
            file.pages[0].tags[name].overwrite(10**6)
    assert path.stat().st_size < 400
    with pytest.raises(InputError, match='is damaged or incomplete'):
        open_array(path)[0]


@pytest.mark.parametrize('counts', [2, 4])
@pytest.mark.parametrize('compression', [None, 'zlib'])
def test_strip_counts_that_are_too_small_or_too_few_are_refused(tmp_path, compression, counts):
    path = tmp_path / 'a.tif'
    tifffile.imwrite(path, STACK, rowsperstrip=10, compression=compression, metadata=None)
    with tifffile.TiffFile(path, mode='r+b') as file:
        tag = file.pages[0].tags['StripByteCounts']
        tag.overwrite(tuple(n // 2 for n in tag.value[:counts]))
    with pytest.raises(InputError, match='is damaged or incomplete'):
        read_whole(open_array(path))


def test_a_png_of_a_few_bytes_cannot_be_gigabytes(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)

    head = (60_000).to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    parts = chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(bytes(100))) + chunk(b'IEND', b'')
    (tmp_path / 'a.png').write_bytes(b'\x89PNG\r\n\x1a\n' + parts)
    with pytest.raises(InputError, match='it claims 3600000000 bytes, and has'):
        open_array(tmp_path / 'a.png')


@pytest.mark.parametrize(
    ('shape', 'chunks', 'message'),
    [
        ([2, 10**7, 10**7], [1, 10**7, 10**7], 'in chunks of up to 2.1 GB'),
        ([10**18, 10, 10], [1, 10, 10], 'more than any disk holds'),
        ([10**18] * 3, [10] * 3, 'more than any disk holds'),
    ],
)
def test_chunks_and_shapes_that_cannot_be_are_refused(tmp_path, shape, chunks, message):
    about = {'zarr_format': 2, 'shape': shape, 'chunks': chunks, 'dtype': '|u1'}
    about |= {'compressor': None, 'fill_value': 0, 'order': 'C', 'filters': None}
    (tmp_path / '.zarray').write_text(json.dumps(about))
    (tmp_path / '0.0.0').write_bytes(bytes(100))
    with pytest.raises(InputError, match=message):
        open_array(tmp_path)


@pytest.mark.parametrize(
    ('format', 'name', 'key', 'value'),
    [
        ('zarr3', '0/zarr.json', 'attributes', [1]),
        ('zarr3', 'zarr.json', 'attributes', [1]),
        ('zarr2', '0/.zarray', 'shape', 3),
        ('n5', 's0/attributes.json', 'dimensions', 'many'),
        ('precomputed', 'info', 'scales', []),
        ('precomputed', 'info', 'scales', 3),
    ],
)
def test_metadata_of_other_types_end_in_one_message(tmp_path, format, name, key, value):
    path = tmp_path / 'a'
    write_array(path, STACK, format=format, resolution_nm=(40, 4, 4))
    about = json.loads((path / name).read_text()) | {key: value}
    (path / name).write_text(json.dumps(about))
    try:
        np.testing.assert_array_equal(read_whole(open_array(path)), STACK)
    except InputError as error:
        assert str(path) in str(error)


def test_chunks_below_the_origin_are_not_lost(tmp_path, caplog):
    place = {'resolution_nm': (40, 4, 4), 'offset_nm': (-80, -8, 0)}
    write_array(tmp_path / 'a', STACK, format='precomputed', **place)
    np.testing.assert_array_equal(read_whole(open_array(tmp_path / 'a')), STACK)
    assert not caplog.records
