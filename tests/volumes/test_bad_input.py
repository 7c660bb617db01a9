"""Files that are no volume: one message each, that says what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from taclnet_jax.errors import InputError
from taclnet_jax.volumes import FORMATS, open_array, read_whole, write_array

IMAGE = np.random.default_rng(0).integers(1, 256, (6, 40, 50)).astype(np.uint8)
FOLDERS = ('zarr2', 'zarr3', 'n5', 'precomputed')
METADATA = {
    'zarr2': ('.zgroup', '.zattrs', '0/.zarray'),
    'zarr3': ('zarr.json', '0/zarr.json'),
    'n5': ('attributes.json', 's0/attributes.json'),
    'precomputed': ('info',),
}


def write(folder: Path, format: str) -> Path:
    path = folder / f'a.{format}'
    resolution_nm = None if format == 'png' else (40.0, 4.0, 4.0)
    write_array(path, IMAGE, format=format, chunk=(2, 16, 16), resolution_nm=resolution_nm)
    return path


def refuse(path: Path | str, *expected: str, dataset: str = '') -> None:
    with pytest.raises(InputError) as caught:
        read_whole(open_array(path, 'labels', dataset))
    for part in (str(path), 'labels', *expected):
        assert part in str(caught.value)


def test_what_is_not_there_is_named(tmp_path: Path):
    refuse(tmp_path / 'a.tif', 'no such file')
    refuse(tmp_path / 'a.zarr', 'no such file')
    (tmp_path / 'empty').mkdir()
    refuse(tmp_path / 'empty', 'as PNG or TIFF sections, or as zarr, N5 or precomputed')
    for suffix in ('zarr', 'n5', 'precomputed'):
        (tmp_path / f'empty.{suffix}').mkdir()
        refuse(tmp_path / f'empty.{suffix}', 'found no metadata of zarr, N5 or precomputed')


def test_contents_count_not_names(tmp_path: Path):
    for suffix, format in (('.tif', 'hdf5'), ('.h5', 'tiff'), ('.raw', 'tiff'), ('.dat', 'hdf5')):
        path = tmp_path / f'a{suffix}'
        write_array(path, IMAGE, format=format)
        np.testing.assert_array_equal(read_whole(open_array(path)), IMAGE)
    for suffix, kind in (('.tif', 'not a TIFF'), ('.h5', 'no HDF5'), ('.png', 'no PNG')):
        (tmp_path / f'text{suffix}').write_text('these are not the pixels')
        refuse(tmp_path / f'text{suffix}', kind)
        (tmp_path / f'nothing{suffix}').write_bytes(b'')
        refuse(tmp_path / f'nothing{suffix}', f'nothing{suffix}')
    (tmp_path / 'scan.mrc').write_bytes(bytes(2000))
    refuse(tmp_path / 'scan.mrc', 'as TIFF, HDF5 or PNG', 'convert')


@pytest.mark.parametrize('format', ['hdf5', 'zarr2', 'zarr3', 'n5'])
def test_a_missing_dataset_is_answered_by_what_is_there(tmp_path: Path, format: str):
    path = tmp_path / 'a'
    for dataset, array in (('volumes/raw', IMAGE), ('volumes/labels/ids', IMAGE.astype('u8'))):
        write_array(path, array, format=format, dataset=dataset)
    there = ('volumes/raw (', 'uint8', 'volumes/labels/ids (', 'uint64', 'name one of them')
    refuse(
        path,
        "dataset 'volumes/ids'" if format == 'hdf5' else "array 'volumes/ids'",
        *there,
        dataset='volumes/ids',
    )
    refuse(path, 'one labels', *there)
    refuse(path, *there, dataset='volumes')
    shape = '(50, 40, 6)' if format == 'n5' else '(6, 40, 50)'  # as it is on disk
    refuse(path, f'volumes/raw {shape} uint8', dataset='volumes/nix/nix')


def test_an_hdf5_file_without_datasets_says_so(tmp_path: Path):
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        file.create_group('volumes')
    refuse(tmp_path / 'a.h5', 'no dataset at all')
    refuse(tmp_path / 'a.h5', 'no dataset at all', dataset='volumes/raw')


@pytest.mark.parametrize('format', ['tiff', 'png'])
def test_formats_of_one_array_take_no_dataset(tmp_path: Path, format: str):
    refuse(write(tmp_path, format), "'volumes/raw'", 'leave it out', dataset='volumes/raw')


def stored_as(folder: Path, array: np.ndarray) -> list[Path]:
    """An array of any shape and type in each format that can hold it."""
    paths = [folder / name for name in ('a.h5', 'a2.zarr', 'a3.zarr')]
    with h5py.File(paths[0], 'w') as file:
        file['main'] = array
    for path, version in zip(paths[1:], (2, 3), strict=True):
        zarr.create_array(path, data=array, zarr_format=version)
    return paths


@pytest.mark.parametrize('shape', [(7,), (2, 3, 4, 5), (2, 1, 3, 4), (3, 4, 5, 3)])
def test_other_numbers_of_axes_are_refused(tmp_path: Path, shape: tuple[int, ...]):
    for path in stored_as(tmp_path, np.ones(shape, np.uint8)):
        refuse(path, f'found {len(shape)} ax', str(shape), 'one channel')


@pytest.mark.parametrize(
    ('shape', 'stack'),
    [((4, 5), (1, 4, 5)), ((1, 3, 4, 5), (3, 4, 5)), ((1, 4, 5, 1), (1, 4, 5)),
     ((1, 1, 3, 4, 5), (3, 4, 5)), ((3, 4, 5, 1), (3, 4, 5))],
)  # fmt: skip
def test_single_channels_and_single_sections_are_stacks(
    tmp_path: Path, shape: tuple[int, ...], stack: tuple[int, int, int]
):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    for path in stored_as(tmp_path, array):
        np.testing.assert_array_equal(read_whole(open_array(path)), array.reshape(stack))


def test_several_channels_are_refused_by_name(tmp_path: Path):
    axes = [{'name': name} for name in 'czyx']
    group = zarr.open_group(tmp_path / 'a.zarr', mode='w')
    group.create_array('0', data=np.ones((2, 3, 4, 5), np.uint8))
    group.attrs['ome'] = {'multiscales': [{'axes': axes, 'datasets': [{'path': '0'}]}]}
    refuse(tmp_path / 'a.zarr', '(c, z, y, x) of shape (2, 3, 4, 5)')
    info = {
        'type': 'image',
        'data_type': 'uint8',
        'num_channels': 3,
        'scales': [
            {
                'key': 'full',
                'size': [5, 4, 3],
                'resolution': [4, 4, 40],
                'chunk_sizes': [[5, 4, 3]],
                'encoding': 'raw',
            }
        ],
    }
    (tmp_path / 'info').write_text(json.dumps(info))
    refuse(tmp_path, '(x, y, z, channel) of shape (5, 4, 3, 3)', 'one channel')


def test_colours_are_refused(tmp_path: Path):
    colours = np.zeros((9, 8, 3), np.uint8)
    tifffile.imwrite(tmp_path / 'rgb.tif', colours, photometric='rgb')
    refuse(tmp_path / 'rgb.tif', 'colour')
    for mode in ('RGB', 'RGBA', 'LA'):
        (tmp_path / mode).mkdir()
        Image.fromarray(colours).convert(mode).save(tmp_path / mode / '0.png')
        refuse(tmp_path / mode, f'a colour image ({mode})', '0.png', 'grey')
    (tmp_path / 'tif').mkdir()
    tifffile.imwrite(tmp_path / 'tif' / '0.tif', colours, photometric='rgb')
    refuse(tmp_path / 'tif', 'colour', '0.tif')


@pytest.mark.parametrize('value', [1j, 'text', b'bytes'])
def test_other_types_are_refused(tmp_path: Path, value: Any):
    array = np.full((2, 3, 4), value)
    if array.dtype.kind == 'U':
        array = array.astype(h5py.string_dtype())
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        file['main'] = array
    refuse(tmp_path / 'a.h5', 'as integers, booleans or floats', 'convert')
    if value == 1j:
        tifffile.imwrite(tmp_path / 'a.tif', array.astype(np.complex64), photometric='minisblack')
        refuse(tmp_path / 'a.tif', 'complex64')
        with pytest.raises(InputError, match='complex128'):
            write_array(tmp_path / 'b.tif', array)


@pytest.mark.parametrize('version', [2, 3])
def test_other_zarr_types_are_refused(tmp_path: Path, version: int):
    zarr.create_array(tmp_path / 'a.zarr', data=np.full((2, 3, 4), 1j), zarr_format=version)
    refuse(tmp_path / 'a.zarr', 'as integers, booleans or floats', 'complex128')
    fields = np.zeros((2, 3, 4), [('id', 'u8'), ('size', 'f4')])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # zarr: not all versions know this type
        zarr.create_array(tmp_path / 'b.zarr', data=fields, zarr_format=version)
    refuse(tmp_path / 'b.zarr', 'b.zarr')


def test_empty_arrays_are_refused(tmp_path: Path):
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        file['main'] = np.zeros((3, 0, 4), np.uint8)
    refuse(tmp_path / 'a.h5', 'is empty: shape (3, 0, 4)')
    with pytest.raises(InputError, match=r'stack \[z, y, x\] for .*found shape \(0, 3, 4\)'):
        write_array(tmp_path / 'b.h5', np.zeros((0, 3, 4), np.uint8))


def test_the_odd_section_is_named(tmp_path: Path):
    def section(name: str, array: np.ndarray) -> None:
        Image.fromarray(array).save(tmp_path / name)

    for z in (1, 2, 10):
        section(f'{z}.png', IMAGE[0])
    section('3.png', IMAGE[0, :30])
    refuse(tmp_path, '3 of 4 are 40 x 50 uint8, but 3.png is 30 x 50 uint8')
    section('3.png', IMAGE[0].astype(np.uint16))
    refuse(tmp_path, 'but 3.png is 40 x 50 uint16')
    (tmp_path / '3.png').unlink()
    tifffile.imwrite(tmp_path / '3.tif', IMAGE[0])
    refuse(tmp_path, 'as PNG or as TIFF, found both (1.png, 3.tif)')


def test_a_stack_among_sections_is_refused(tmp_path: Path):
    tifffile.imwrite(tmp_path / '1.tif', IMAGE[0])
    tifffile.imwrite(tmp_path / '2.tif', IMAGE)
    refuse(tmp_path, 'one labels section a file, found 6', '2.tif')


@pytest.mark.parametrize('part', [0.0, 0.05, 0.3, 0.9])
@pytest.mark.parametrize('format', ['tiff', 'png', 'hdf5'])
def test_cut_off_files_are_refused(tmp_path: Path, format: str, part: float):
    path = write(tmp_path, format)
    file = path / '0003.png' if format == 'png' else path
    file.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])
    refuse(path)


def test_damaged_hdf5_chunks_are_refused(tmp_path: Path):
    path = write(tmp_path, 'hdf5')
    with h5py.File(path) as file:
        chunk = file['main'].id.get_chunk_info(3)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + 20] = b'x' * 20
    path.write_bytes(content)
    refuse(path, 'main is damaged')


def test_damaged_png_pixels_are_refused(tmp_path: Path):
    path = write(tmp_path, 'png')
    content = bytearray((path / '0003.png').read_bytes())
    content[60:90] = bytes(30)
    (path / '0003.png').write_bytes(content)
    refuse(path, '0003.png is damaged')


@pytest.mark.parametrize(
    ('format', 'name'), [(format, name) for format in METADATA for name in METADATA[format]]
)
def test_cut_off_metadata_are_refused(tmp_path: Path, format: str, name: str):
    path = write(tmp_path, format)
    file = path / name
    file.write_bytes(file.read_bytes()[:-3])
    refuse(path, f'metadata {name} of the', 'are damaged')


@pytest.mark.parametrize('format', FOLDERS)
def test_metadata_that_make_no_sense_are_refused(tmp_path: Path, format: str):
    path = write(tmp_path, format)
    file = path / METADATA[format][-1]
    text = file.read_text().replace('uint8', 'uint9').replace('|u1', '|u9')
    file.write_text(text)
    refuse(path, 'Cannot read')


@pytest.mark.parametrize('format', FOLDERS)
def test_damaged_chunks_are_refused(tmp_path: Path, format: str):
    path = write(tmp_path, format)
    stored = open_array(path, 'labels')
    chunks = [
        file
        for file in path.rglob('*')
        if file.is_file() and '.z' not in file.name and 'json' not in file.name
    ]
    chunk = max(file for file in chunks if file.name != 'info')
    for content in (chunk.read_bytes()[:-5], b'junk', b''):
        chunk.write_bytes(content)
        stored = open_array(path, 'labels')
        with pytest.raises(InputError, match=f'Cannot read the labels {path}.*copy it again'):
            read_whole(stored)


def test_a_filter_that_hdf5_lacks_is_named(tmp_path: Path):
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((6, 40, 50))
        properties.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (2, 2, 1, 0))
        h5py.h5d.create(
            file.id,
            b'main',
            h5py.h5t.NATIVE_UINT8,
            h5py.h5s.create_simple(IMAGE.shape),
            dcpl=properties,
        )
    refuse(tmp_path / 'a.h5', 'main is compressed with 32001', 'gzip')


def test_a_file_that_another_program_writes_is_named(tmp_path: Path):
    script = (
        'import h5py, sys\n'
        'file = h5py.File(sys.argv[1], "w", locking=True)\n'
        'file["main"] = 1\nprint(flush=True)\nsys.stdin.read()\n'
    )
    path = tmp_path / 'a.h5'
    command = [sys.executable, '-c', script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        refuse(path, 'no other program writes')


def test_compressed_tiffs_say_that_they_need_imagecodecs(tmp_path: Path):
    pytest.importorskip('imagecodecs')
    path = tmp_path / 'a.tif'
    tifffile.imwrite(path, IMAGE, compression='lzw')
    np.testing.assert_array_equal(read_whole(open_array(path)), IMAGE)
    script = (
        'import sys\n'
        'sys.modules["imagecodecs"] = None\n'
        'from taclnet_jax.volumes.tiff import read_stack\n'
        'read_stack(sys.argv[1])\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert 'InputError' in done.stderr and 'needs the package imagecodecs' in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
@pytest.mark.parametrize('format', FORMATS)
def test_files_without_permission_are_named(tmp_path: Path, format: str):
    path = write(tmp_path, format)
    places = [path, *path.rglob('*')]
    for place in reversed(places):
        place.chmod(0o000 if place.is_file() else 0o500)
    try:
        refuse(path, 'ermission')
        path.chmod(0o000)
        refuse(path, 'ermission')
    finally:
        for place in places:
            place.chmod(0o700)
