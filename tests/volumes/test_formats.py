"""Volumes in every format: what is written is read back, and other programs agree."""

from __future__ import annotations

import functools
import http.server
import json
import struct
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from taclnet_jax.errors import InputError
from taclnet_jax.volumes import chunked, hdf5, open_array, read_whole, write_array

RESOLUTION_NM = (40.0, 4.5, 4.0)
OFFSET_NM = (-120.0, 45.0, 800.0)  # whole voxels
FOLDERS = ('zarr2', 'zarr3', 'n5', 'precomputed')
NAMES = {
    'tiff': 'a.tif',
    'png': 'sections',
    'hdf5': 'a.h5',
    'zarr2': 'a.zarr',
    'zarr3': 'a.zarr',
    'n5': 'a.n5',
    'precomputed': 'a.precomputed',
}


def image(shape: tuple[int, int, int] = (5, 21, 34), dtype: str = 'uint8') -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def labels(shape: tuple[int, int, int] = (5, 21, 34)) -> np.ndarray:
    """Ids that no float64 can hold."""
    small = np.random.default_rng(1).integers(0, 7, shape).astype(np.uint64)
    return np.where(small == 0, 0, np.uint64(2**64 - 9) + small)


def write(folder: Path, format: str, array: Any, **options: Any) -> Path:
    path = folder / NAMES[format]
    write_array(path, array, format=format, chunk=(2, 8, 16), **options)
    return path


def geometry(format: str) -> dict[str, Any]:
    if format == 'png':
        return {}
    if format == 'tiff':
        return {'resolution_nm': RESOLUTION_NM}
    return {'resolution_nm': RESOLUTION_NM, 'offset_nm': OFFSET_NM}


@pytest.mark.parametrize('format', NAMES)
@pytest.mark.parametrize('shape', [(5, 21, 34), (1, 7, 9), (3, 1, 5), (4, 6, 1), (2, 3, 4)])
def test_images_come_back(tmp_path: Path, format: str, shape: tuple[int, int, int]):
    array = image(shape)
    stored = open_array(write(tmp_path, format, array, **geometry(format)))
    assert stored.shape == shape and stored.dtype == np.uint8
    np.testing.assert_array_equal(read_whole(stored), array)
    expected = geometry(format)
    for name in ('resolution_nm', 'offset_nm'):
        found = getattr(stored, name)
        assert found == pytest.approx(expected[name]) if name in expected else found is None


@pytest.mark.parametrize('format', [name for name in NAMES if name != 'png'])
def test_large_ids_come_back_exactly(tmp_path: Path, format: str):
    ids = labels()
    stored = open_array(write(tmp_path, format, ids, **geometry(format)), 'labels')
    assert stored.dtype == np.uint64
    np.testing.assert_array_equal(read_whole(stored), ids)
    if format != 'tiff':
        assert stored.offset_nm == pytest.approx(OFFSET_NM)
    assert stored.resolution_nm == pytest.approx(RESOLUTION_NM)


@pytest.mark.parametrize('format', NAMES)
@pytest.mark.parametrize(
    'dtype', ['uint8', 'uint16', 'int16', 'uint32', 'int64', 'float16', 'float32', 'float64']
)
def test_types_come_back_or_are_refused(tmp_path: Path, format: str, dtype: str):
    array = image((2, 5, 7), dtype)
    too_narrow = {
        'png': ('uint8', 'uint16'),
        'n5': ('uint8', 'uint16', 'int16', 'uint32', 'int64', 'float32', 'float64'),
        'precomputed': ('uint8', 'uint16', 'int16', 'uint32', 'float32'),
    }
    if dtype not in too_narrow.get(format, (dtype,)):
        with pytest.raises(InputError, match=f'{format} can store .* found {dtype}'):
            write(tmp_path, format, array, **geometry(format))
        assert list(tmp_path.iterdir()) == []
        return
    stored = open_array(write(tmp_path, format, array, **geometry(format)))
    assert stored.dtype == array.dtype
    np.testing.assert_array_equal(read_whole(stored), array)


@pytest.mark.parametrize('format', NAMES)
def test_booleans_become_0_and_255(tmp_path: Path, format: str):
    mask = image() > 100
    stored = open_array(write(tmp_path, format, mask, **geometry(format)))
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(read_whole(stored), mask * 255)


@pytest.mark.parametrize('format', NAMES)
def test_crops_equal_whole_reads(tmp_path: Path, format: str):
    array = image()
    stored = open_array(write(tmp_path, format, array, **geometry(format)))
    for key in [
        0,
        4,
        -1,
        (2, slice(3, 9), slice(30, 34)),
        (2, slice(None), slice(16, 17)),
        (3, slice(20, 500), slice(-5, None)),
        (1, slice(None, None, 2), slice(30, 3, -3)),
        (0, slice(4, 4), slice(None)),
        (np.int64(1), slice(0, 8), slice(0, 16)),
    ]:
        crop = stored[key]
        np.testing.assert_array_equal(crop, array[key])
        assert crop.dtype.isnative and crop.flags.writeable and crop.flags.c_contiguous
    for z in (5, -6):
        with pytest.raises(IndexError, match='There is no section'):
            stored[z]
    assert len(list(stored)) == 5  # iteration ends


@pytest.mark.parametrize('format', NAMES)
def test_threads_read_side_by_side(tmp_path: Path, format: str):
    array = image((6, 40, 50))
    stored = open_array(write(tmp_path, format, array, **geometry(format)))
    corners = [(z, y, x) for z in range(6) for y in (0, 7) for x in (3, 8)]
    crops = [(z, slice(y, y + 13), slice(x, x + 9)) for z, y, x in corners]
    with ThreadPoolExecutor(8) as pool:
        for key, crop in zip(crops, pool.map(stored.__getitem__, crops), strict=True):
            np.testing.assert_array_equal(crop, array[key])


@pytest.mark.parametrize('format', NAMES)
def test_a_stored_array_is_copied_from_format_to_format(tmp_path: Path, format: str):
    source = open_array(write(tmp_path, 'n5', image(), **geometry('n5')))
    copy = open_array(write(tmp_path / 'copy', format, source, **geometry(format)))
    np.testing.assert_array_equal(read_whole(copy), image())


@pytest.mark.parametrize('format', ['hdf5', 'zarr2', 'zarr3', 'n5'])
def test_a_container_holds_several_arrays(tmp_path: Path, format: str):
    path = write(tmp_path, format, image(), dataset='volumes/raw', **geometry(format))
    write(tmp_path, format, labels(), dataset='volumes/labels/ids', resolution_nm=RESOLUTION_NM)
    raw = open_array(path, dataset='volumes/raw')
    ids = open_array(path, 'labels', '/volumes/labels/ids/')
    np.testing.assert_array_equal(read_whole(raw), image())
    np.testing.assert_array_equal(read_whole(ids), labels())
    assert raw.resolution_nm == ids.resolution_nm == RESOLUTION_NM
    assert raw.offset_nm == OFFSET_NM and ids.offset_nm is None
    assert raw.dataset == 'volumes/raw' and raw.name == f'{path}:volumes/raw'
    # The only array of a group needs no name of its own.
    assert open_array(path, 'labels', 'volumes/labels').dataset == 'volumes/labels/ids'
    write(tmp_path, format, image() // 2, dataset='volumes/raw')  # replaced, the other one kept
    np.testing.assert_array_equal(read_whole(open_array(path, '', 'volumes/raw')), image() // 2)
    np.testing.assert_array_equal(read_whole(open_array(path, '', 'volumes/labels/ids')), labels())


# Files of other programs.


def test_tiff_calibrations_become_nm(tmp_path: Path):
    def size(**options: Any) -> tuple[float, float, float] | None:
        path = tmp_path / 'a.tif'
        tifffile.imwrite(path, image(), photometric='minisblack', **options)
        np.testing.assert_array_equal(read_whole(open_array(path)), image())
        return open_array(path).resolution_nm

    per_um = {'resolution': (1 / 0.004, 1 / 0.0045), 'imagej': True}
    for unit in ('micron', 'um', '\\u00B5m', 'microns'):
        found = size(metadata={'axes': 'ZYX', 'spacing': 0.04, 'unit': unit}, **per_um)
        assert found == pytest.approx(RESOLUTION_NM)
    nm = {'axes': 'ZYX', 'spacing': 40, 'unit': 'nm'}
    assert size(metadata=nm, imagej=True, resolution=(1 / 4, 1 / 4.5)) == pytest.approx(
        RESOLUTION_NM
    )
    assert size(metadata={'axes': 'ZYX', 'spacing': 2, 'unit': 'pixel'}, **per_um) is None
    assert size(metadata={'axes': 'ZYX', 'unit': 'micron'}, **per_um) is None  # depth unknown
    # Dots per inch say how to print it.
    assert size(resolution=(300, 300), resolutionunit='INCH') is None
    ome = {'PhysicalSizeZ': 0.04, 'PhysicalSizeY': 0.0045, 'PhysicalSizeX': 0.004}  # um
    assert size(ome=True, metadata={'axes': 'ZYX', **ome}) == pytest.approx(RESOLUTION_NM)
    units = {f'PhysicalSize{axis}Unit': 'nm' for axis in 'ZYX'}
    ome = {'PhysicalSizeZ': 40, 'PhysicalSizeY': 4.5, 'PhysicalSizeX': 4}
    assert size(ome=True, metadata={'axes': 'ZYX', **ome, **units}) == RESOLUTION_NM


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32'])
@pytest.mark.parametrize('byteorder', ['<', '>'])
@pytest.mark.parametrize(
    'options',
    [
        {},
        {'bigtiff': True},
        {'imagej': True},
        {'metadata': None},
        {'compression': 'zlib'},
        {'compression': 'zlib', 'predictor': True},
        {'compression': 'lzw'},
        {'tile': (16, 16)},
        {'rowsperstrip': 5, 'compression': 'zlib'},
    ],
)
def test_tiff_variants_are_read(tmp_path: Path, dtype: str, byteorder: str, options: Any):
    if options.get('compression') == 'lzw' or options.get('predictor'):
        pytest.importorskip('imagecodecs')
    if options == {'imagej': True} and byteorder == '<':
        options = {**options, 'metadata': {'axes': 'ZYX'}}
    array = image(dtype=dtype)
    tifffile.imwrite(
        tmp_path / 'a.tif', array, byteorder=byteorder, photometric='minisblack', **options
    )
    stored = open_array(tmp_path / 'a.tif')
    assert stored.dtype == array.dtype and stored.dtype.isnative
    np.testing.assert_array_equal(read_whole(stored), array)
    np.testing.assert_array_equal(stored[3, 4:9, 5:30], array[3, 4:9, 5:30])


def test_sections_are_taken_in_natural_order(tmp_path: Path):
    array = image((12, 6, 7), 'uint16')
    for folder, suffix in (('png', '.png'), ('tif', '.TIF')):
        (tmp_path / folder).mkdir()
        for z, section in enumerate(array):
            path = tmp_path / folder / f'stack 3_z{z}{suffix}'
            Image.fromarray(section).save(path)
        (tmp_path / folder / 'notes.txt').write_text('not a section')
        (tmp_path / folder / '.hidden.png').write_bytes(b'')
        stored = open_array(tmp_path / folder)
        assert stored.dtype == np.uint16
        np.testing.assert_array_equal(read_whole(stored), array)
        assert stored.resolution_nm is None


def test_one_png_is_one_section_and_one_bit_is_boolean(tmp_path: Path):
    mask = image((1, 6, 9))[0] > 100
    Image.fromarray(mask).save(tmp_path / 'mask.png')
    stored = open_array(tmp_path / 'mask.png', 'labels')
    assert stored.shape == (1, 6, 9) and stored.dtype == bool
    np.testing.assert_array_equal(stored[0], mask)


def test_cremi_files_are_read(tmp_path: Path):
    with h5py.File(tmp_path / 'sample.hdf', 'w') as file:
        raw = file.create_dataset('volumes/raw', data=image(), chunks=(1, 8, 8), compression='lzf')
        raw.attrs['resolution'] = (40.0, 4.0, 4.0)
        ids = file.create_dataset('volumes/labels/neuron_ids', data=labels())
        ids.attrs['resolution'] = (40.0, 4.0, 4.0)
        ids.attrs['offset'] = (1520.0, 3644.0, 3644.0)
    ids = open_array(tmp_path / 'sample.hdf', 'labels', 'volumes/labels/neuron_ids')
    assert ids.resolution_nm == (40, 4, 4) and ids.offset_nm == (1520, 3644, 3644)
    np.testing.assert_array_equal(read_whole(ids), labels())
    raw = open_array(tmp_path / 'sample.hdf', 'image', '/volumes/raw')
    assert raw.offset_nm is None
    np.testing.assert_array_equal(read_whole(raw), image())


def test_other_hdf5_files_are_read(tmp_path: Path):
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        ilastik = file.create_dataset('exported_data', data=image()[..., np.newaxis])
        ilastik.attrs['element_size_um'] = (0.04, 0.0045, 0.004)
        file['big'] = image().astype('>u2')
        file['mask'] = image() > 9
        file['flat'] = image()[0]
    stored = open_array(tmp_path / 'a.h5', dataset='exported_data')
    assert stored.shape == (5, 21, 34) and stored.resolution_nm == pytest.approx(RESOLUTION_NM)
    np.testing.assert_array_equal(stored[2, 3:5, 6:9], image()[2, 3:5, 6:9])
    big = open_array(tmp_path / 'a.h5', dataset='big')
    assert big.dtype == np.uint16 and big.dtype.isnative and big[0].dtype.isnative
    np.testing.assert_array_equal(read_whole(big), image())
    np.testing.assert_array_equal(open_array(tmp_path / 'a.h5', '', 'mask')[1], image()[1] > 9)
    assert open_array(tmp_path / 'a.h5', dataset='flat').shape == (1, 21, 34)


@pytest.mark.parametrize('version', [2, 3])
def test_ome_zarr_of_zarr_python_is_read(tmp_path: Path, version: int):
    root = zarr.open_group(tmp_path / 'a.zarr', mode='w', zarr_format=version)
    finest = root.create_array('0', shape=(1, 1, 5, 21, 34), chunks=(1, 1, 2, 9, 9), dtype='>u2')
    finest[:] = image()[np.newaxis, np.newaxis]
    coarse = root.create_array('1', shape=(1, 1, 5, 10, 17), dtype='u2')
    multiscale = {
        'axes': [
            {'name': 't', 'type': 'time'},
            {'name': 'c', 'type': 'channel'},
            *({'name': a, 'type': 'space', 'unit': 'micrometer'} for a in 'zyx'),
        ],
        'datasets': [
            {
                'path': path,
                'coordinateTransformations': [
                    {'type': 'scale', 'scale': [1, 1, 0.02, 0.002 * by, 0.002 * by]},
                    {'type': 'translation', 'translation': [0, 0, 0.1, 0.05, 0]},
                ],
            }
            for path, by in (('0', 1), ('1', 2))
        ],
        'coordinateTransformations': [{'type': 'scale', 'scale': [1, 1, 2, 2, 2]}],
    }
    if version == 2:
        root.attrs['multiscales'] = [{'version': '0.4', **multiscale}]
    else:
        root.attrs['ome'] = {'version': '0.5', 'multiscales': [multiscale]}
    stored = open_array(tmp_path / 'a.zarr')
    assert stored.shape == (5, 21, 34) and stored.dataset == '0'
    np.testing.assert_array_equal(read_whole(stored), image())
    assert stored.resolution_nm == pytest.approx((40, 4, 4))
    assert stored.offset_nm == pytest.approx((200, 100, 0))
    for given in (('a.zarr', '1'), ('a.zarr/1', '')):
        level = open_array(tmp_path / given[0], dataset=given[1])
        assert level.shape == (5, *coarse.shape[3:])
        assert level.resolution_nm == pytest.approx((40, 8, 8))


@pytest.mark.parametrize('version', [2, 3])
def test_plain_zarr_of_zarr_python_is_read(tmp_path: Path, version: int):
    root = zarr.open_group(tmp_path / 'a.zarr', mode='w', zarr_format=version)
    raw = root.create_array('volumes/raw', data=image(), chunks=(2, 9, 9))
    raw.attrs.update({'resolution': [40, 4.5, 4], 'offset': [-120, 45, 800], 'units': ['nm'] * 3})
    stored = open_array(tmp_path / 'a.zarr')  # the only one
    assert stored.dataset == 'volumes/raw'
    assert stored.resolution_nm == RESOLUTION_NM and stored.offset_nm == OFFSET_NM
    np.testing.assert_array_equal(read_whole(stored), image())
    turned = zarr.create_array(
        tmp_path / 'turned.zarr',
        data=np.ascontiguousarray(image().T),
        zarr_format=version,
        dimension_names=['x', 'y', 'z'] if version == 3 else None,
        attributes={
            '_ARRAY_DIMENSIONS': ['x', 'y', 'z'],
            'voxel_size': [0.004, 0.0045, 0.04],
            'units': 'um',
        },
    )
    assert turned.shape == (34, 21, 5)
    stored = open_array(tmp_path / 'turned.zarr')
    np.testing.assert_array_equal(read_whole(stored), image())
    assert stored.resolution_nm == pytest.approx(RESOLUTION_NM)


@pytest.mark.parametrize(
    'attributes',
    [
        {'resolution': 'fine'},
        {'resolution': [4, 4]},
        {'resolution': [0, 4, 4], 'axis_names': 7},
        {'resolution': [-40, 4, 4], '_ARRAY_DIMENSIONS': [1, 2, 3]},
        {'resolution': [40, 4, 4], 'units': ['nm', 'second', 'nm']},
        {'resolution': [40, 4, 4], 'units': ['nm']},
        {'resolution': None, 'offset': {}},
    ],
)
def test_a_voxel_size_that_makes_no_sense_is_none(tmp_path: Path, attributes: dict[str, Any]):
    zarr.create_array(tmp_path / 'a.zarr', data=image(), attributes=attributes)
    stored = open_array(tmp_path / 'a.zarr')
    assert stored.resolution_nm is None and stored.offset_nm is None
    np.testing.assert_array_equal(read_whole(stored), image())


@pytest.mark.parametrize('format', ['zarr2', 'zarr3'])
def test_zarr_python_reads_what_we_write(tmp_path: Path, format: str):
    path = write(tmp_path, format, labels(), **geometry(format))
    root = zarr.open_group(path, mode='r')
    assert root.metadata.zarr_format == int(format[-1])
    np.testing.assert_array_equal(root['0'][:], labels())
    attributes = dict(root.attrs)
    (multiscale,) = attributes.get('ome', attributes)['multiscales']
    assert [axis['name'] for axis in multiscale['axes']] == ['z', 'y', 'x']
    assert {axis['unit'] for axis in multiscale['axes']} == {'nanometer'}
    assert multiscale['datasets'] == [
        {
            'path': '0',
            'coordinateTransformations': [
                {'type': 'scale', 'scale': list(RESOLUTION_NM)},
                {'type': 'translation', 'translation': list(OFFSET_NM)},
            ],
        }
    ]
    if format == 'zarr3':
        assert root['0'].metadata.dimension_names == ('z', 'y', 'x')
    write(tmp_path, format, image(), dataset='more/raw', resolution_nm=RESOLUTION_NM)
    raw = zarr.open_group(path, mode='r')['more/raw']
    np.testing.assert_array_equal(raw[:], image())
    assert raw.attrs['resolution'] == list(RESOLUTION_NM)


def test_h5py_tifffile_and_pillow_read_what_we_write(tmp_path: Path):
    with h5py.File(write(tmp_path, 'hdf5', labels(), **geometry('hdf5'))) as file:
        np.testing.assert_array_equal(file['main'][:], labels())
        np.testing.assert_array_equal(file['main'].attrs['resolution'], RESOLUTION_NM)
        np.testing.assert_array_equal(file['main'].attrs['offset'], OFFSET_NM)
    for array in (image(), labels()):
        path = write(tmp_path, 'tiff', array, **geometry('tiff'))
        np.testing.assert_array_equal(tifffile.imread(path), array)
    folder = write(tmp_path, 'png', image(dtype='uint16'))
    assert sorted(path.name for path in folder.iterdir()) == [f'000{z}.png' for z in range(5)]
    with Image.open(folder / '0003.png') as section:
        np.testing.assert_array_equal(np.asarray(section), image()[3])


# N5 and precomputed, by their specifications alone.


def n5_block(block: np.ndarray) -> bytes:
    """A block `[z, y, x]` as N5 stores it: big-endian, x the fastest."""
    data = block.astype(block.dtype.newbyteorder('>')).tobytes()
    header = struct.pack('>HHIII', 0, 3, *block.shape[::-1])
    compressor = zlib.compressobj(wbits=31)
    return header + compressor.compress(data) + compressor.flush()


def write_n5_by_hand(folder: Path, array: np.ndarray, attributes: dict[str, Any]) -> None:
    depth, height, width = array.shape
    for z in range(0, depth, 2):
        for y in range(0, height, 8):
            for x in range(0, width, 16):
                path = folder / str(x // 16) / str(y // 8) / str(z // 2)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(n5_block(array[z : z + 2, y : y + 8, x : x + 16]))
    metadata = {
        'dimensions': [width, height, depth],
        'blockSize': [16, 8, 2],
        'dataType': array.dtype.name,
        'compression': {'type': 'gzip', 'level': -1},
    }
    (folder / 'attributes.json').write_text(json.dumps(metadata | attributes))


@pytest.mark.parametrize(
    'attributes',
    [
        {'resolution': [4, 4.5, 40], 'offset': [800, 45, -120]},
        {'resolution': [4, 4.5, 40], 'units': ['nm'] * 3, 'offset': [800, 45, -120]},
        {
            'pixelResolution': {'unit': 'um', 'dimensions': [0.004, 0.0045, 0.04]},
            'offset': [800, 45, -120],
        },
        {
            'transform': {
                'axes': ['z', 'y', 'x'],
                'units': ['nm'] * 3,
                'scale': [40, 4.5, 4],
                'translate': [-120, 45, 800],
            }
        },
    ],
)
def test_n5_of_other_programs_is_read(tmp_path: Path, attributes: dict[str, Any]):
    write_n5_by_hand(tmp_path / 'a.n5' / 'raw' / 's0', labels(), attributes)
    (tmp_path / 'a.n5' / 'attributes.json').write_text('{"n5": "2.5.1"}')
    for dataset in ('', 'raw', 'raw/s0'):
        stored = open_array(tmp_path / 'a.n5', 'labels', dataset)
        assert stored.shape == (5, 21, 34) and stored.dataset == 'raw/s0'
        np.testing.assert_array_equal(read_whole(stored), labels())
        assert stored.resolution_nm == pytest.approx(RESOLUTION_NM)
        assert stored.offset_nm == pytest.approx(OFFSET_NM)
    np.testing.assert_array_equal(open_array(tmp_path / 'a.n5/raw/s0')[3], labels()[3])


def test_n5_pyramids_take_the_finest_level(tmp_path: Path):
    group = tmp_path / 'a.n5' / 'setup0'
    write_n5_by_hand(group / 's0', image(), {})
    write_n5_by_hand(group / 's1', image()[:, ::2, ::2], {'downsamplingFactors': [2, 2, 1]})
    pixel = {'pixelResolution': {'unit': 'nm', 'dimensions': [4, 4.5, 40]}}
    (group / 'attributes.json').write_text(json.dumps(pixel))
    stored = open_array(tmp_path / 'a.n5', dataset='setup0')
    assert stored.shape == (5, 21, 34) and stored.resolution_nm == RESOLUTION_NM
    assert open_array(tmp_path / 'a.n5', dataset='setup0/s1').resolution_nm == (40, 9, 8)


def test_our_n5_follows_the_specification(tmp_path: Path):
    path = write(tmp_path, 'n5', labels(), **geometry('n5'))
    assert json.loads((path / 'attributes.json').read_text())['n5']
    attributes = json.loads((path / 's0' / 'attributes.json').read_text())
    assert attributes['dimensions'] == [34, 21, 5] and attributes['blockSize'] == [16, 8, 2]
    assert attributes['resolution'] == [4, 4.5, 40] and attributes['offset'] == [800, 45, -120]
    assert attributes['pixelResolution'] == {'unit': 'nm', 'dimensions': [4, 4.5, 40]}
    content = (path / 's0' / '2' / '1' / '0').read_bytes()
    mode, axes, width, height, depth = struct.unpack('>HHIII', content[:16])
    assert (mode, axes) == (0, 3)
    voxels = np.frombuffer(zlib.decompress(content[16:], 31), '>u8').reshape(depth, height, width)
    np.testing.assert_array_equal(voxels[:2, :8, :2], labels()[:2, 8:16, 32:])


def precomputed_info(shape: tuple[int, ...], dtype: str, **scale: Any) -> dict[str, Any]:
    finest = {
        'key': 'full',
        'size': list(shape[::-1]),
        'resolution': [4, 4.5, 40],
        'voxel_offset': [200, 10, -3],
        'chunk_sizes': [list(shape[::-1])],
        'encoding': 'raw',
    }
    half = finest | {'key': 'half', 'size': [17, 11, 5], 'resolution': [8, 9, 40]}
    return {
        'type': 'image',
        'data_type': dtype,
        'num_channels': 1,
        'scales': [finest | scale, half | {'chunk_sizes': [[17, 11, 5]]}],
    }


def test_precomputed_of_other_programs_is_read(tmp_path: Path):
    (tmp_path / 'full').mkdir()
    # Raw chunks are in Fortran order [x, y, z, channel]: the bytes of a C-ordered [z, y, x].
    (tmp_path / 'full' / '200-234_10-31_-3-2').write_bytes(labels().tobytes())
    (tmp_path / 'info').write_text(json.dumps(precomputed_info((5, 21, 34), 'uint64')))
    stored = open_array(tmp_path)
    assert stored.shape == (5, 21, 34)
    assert stored.resolution_nm == RESOLUTION_NM and stored.offset_nm == OFFSET_NM
    np.testing.assert_array_equal(read_whole(stored), labels())


def test_our_precomputed_follows_the_specification(tmp_path: Path):
    path = write(tmp_path, 'precomputed', image(dtype='uint16'), **geometry('precomputed'))
    info = json.loads((path / 'info').read_text())
    assert info['type'] == 'image' and info['num_channels'] == 1
    (scale,) = info['scales']
    assert scale['size'] == [34, 21, 5] and scale['resolution'] == [4, 4.5, 40]
    assert scale['voxel_offset'] == [200, 10, -3] and scale['encoding'] == 'raw'
    chunk = (path / scale['key'] / '216-232_18-26_-1-1').read_bytes()
    np.testing.assert_array_equal(
        np.frombuffer(chunk, '<u2').reshape(2, 8, 16), image()[2:4, 8:16, 16:32]
    )
    path = write(tmp_path / 'ids', 'precomputed', labels(), **geometry('precomputed'))
    assert json.loads((path / 'info').read_text())['type'] == 'segmentation'


# Addresses.


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
        thread.join()


@pytest.mark.parametrize('format', FOLDERS)
def test_addresses_are_read(tmp_path: Path, address: str, format: str):
    name = write(tmp_path, format, labels(), **geometry(format)).name
    for url in (f'{address}/{name}', f'{address}/{name}/'):
        stored = open_array(url)
        assert stored.resolution_nm == RESOLUTION_NM and stored.offset_nm == OFFSET_NM
        np.testing.assert_array_equal(stored[3, 2:9, 30:], labels()[3, 2:9, 30:])
    with pytest.raises(InputError, match=f"'nix' in {address}/{name}, found no metadata"):
        open_array(f'{address}/{name}', 'labels', 'nix')


def test_unreachable_addresses_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chunked, '_RETRIES', {'max_retries': 1, 'max_delay': '10ms'})
    monkeypatch.setattr(chunked, 'context', chunked.context.__wrapped__)
    with pytest.raises(InputError, match=r'127\.0\.0\.1:1/a.* check the path.*connection'):
        open_array('http://127.0.0.1:1/a.zarr')
    with pytest.raises(InputError, match='start with one of gs://'):
        open_array('ftp://127.0.0.1/a.zarr')


# Larger than memory.


def resident_bytes() -> int:
    return int(Path('/proc/self/statm').read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='memory is read from /proc')
def test_a_sparse_volume_of_200_gb_is_read_by_crops(tmp_path: Path):
    array = zarr.create_array(
        tmp_path / 'huge.zarr', shape=(3200, 8000, 8000), chunks=(16, 128, 128), dtype='u1'
    )
    array[1600:1616, 4096:4224, 4096:4224] = 7
    before = resident_bytes()
    stored = open_array(tmp_path / 'huge.zarr')
    assert stored.shape == (3200, 8000, 8000)
    crop = stored[1603, 4000:4256, 4000:4256]
    assert crop.sum() == 7 * 128**2
    assert stored[3199].sum() == 0
    assert resident_bytes() - before < 2**29


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='memory is read from /proc')
def test_what_is_read_does_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chunked, '_CACHE_BYTES', 2**20)
    monkeypatch.setattr(chunked, 'context', functools.cache(chunked.context.__wrapped__))
    monkeypatch.setattr(hdf5, '_CACHE_BYTES', 2**20)
    shape = (96, 768, 768)
    for format in ('zarr2', 'hdf5'):
        path = tmp_path / NAMES[format]
        flat = np.broadcast_to(np.uint8(3), shape)
        write_array(path, flat, format=format, chunk=(2, 128, 128))
        stored = open_array(path)
        stored[0]
        before = resident_bytes()
        assert sum(int(stored[z, 5:760, 5:760].max()) for z in range(96)) == 3 * 96
        assert resident_bytes() - before < 2**25  # of 54 MiB
