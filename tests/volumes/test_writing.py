"""Writing: whole or not at all, and never over somebody else's files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from taclnet_jax.errors import InputError
from taclnet_jax.volumes import FORMATS, LazySections, open_array, read_whole, sections, write_array

IMAGE = np.random.default_rng(0).integers(1, 256, (5, 21, 34)).astype(np.uint8)
RESOLUTION_NM = (40.0, 4.0, 4.0)


def write(path: Path, format: str | None, array: Any = IMAGE, **options: Any) -> None:
    if format != 'png':
        options.setdefault('resolution_nm', RESOLUTION_NM)
    options.setdefault('chunk', (2, 8, 16))
    write_array(path, array, format=format, **options)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b''
        for path in folder.rglob('*')
    }


@pytest.mark.parametrize(
    ('name', 'start'),
    [
        ('a.tif', b'II'),
        ('a.TIFF', b'II'),
        ('a.h5', b'\x89HDF'),
        ('a.hdf', b'\x89HDF'),
        ('a.hdf5', b'\x89HDF'),
        ('a.zarr', '.zgroup'),
        ('a.n5', 's0/attributes.json'),
        ('a.precomputed', 'info'),
    ],
)
def test_the_suffix_says_the_format(tmp_path: Path, name: str, start: bytes | str):
    write(tmp_path / 'new' / 'folder' / name, None)
    path = tmp_path / 'new' / 'folder' / name
    if isinstance(start, bytes):
        assert path.read_bytes().startswith(start)
    else:
        assert (path / start).is_file()


def test_other_names_ask_for_a_format(tmp_path: Path):
    for name in ('a', 'a.png', 'a.mrc', 'a.zip'):
        with pytest.raises(InputError, match=r'ends in one of \.tif, .*formats tiff, png, hdf5'):
            write(tmp_path / name, None)
    with pytest.raises(InputError, match="formats tiff, .*, found 'zarr'"):
        write(tmp_path / 'a.zarr', 'zarr')


@pytest.mark.parametrize('format', FORMATS)
def test_a_volume_replaces_its_older_self(tmp_path: Path, format: str):
    path = tmp_path / 'a'
    write(path, format)
    write(path, format, IMAGE[:3] // 2)
    np.testing.assert_array_equal(read_whole(open_array(path)), IMAGE[:3] // 2)
    assert os.listdir(tmp_path) == ['a']


@pytest.mark.parametrize('format', FORMATS)
def test_an_interrupted_write_changes_nothing(tmp_path: Path, format: str):
    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        if z == 3:
            raise InputError('section 3 is damaged')
        return IMAGE[z, rows, columns]

    broken = LazySections(IMAGE.shape, np.uint8, read)
    with pytest.raises(InputError, match='section 3 is damaged'):
        write(tmp_path / 'a', format, broken)
    assert os.listdir(tmp_path) == []
    write(tmp_path / 'a', format)
    before = tree(tmp_path)
    with pytest.raises(InputError, match='section 3 is damaged'):
        write(tmp_path / 'a', format, broken)
    assert tree(tmp_path) == before
    if format in ('hdf5', 'zarr2', 'zarr3', 'n5'):
        with pytest.raises(InputError, match='section 3 is damaged'):
            write(tmp_path / 'a', format, broken, dataset='volumes/more')
        assert tree(tmp_path) == before


@pytest.mark.parametrize('dtype', [np.uint8, np.float32, np.uint32])
@pytest.mark.parametrize('format', ['zarr2', 'zarr3', 'precomputed'])
def test_images_beyond_a_screen_have_levels(tmp_path: Path, format: str, dtype: type):
    rng = np.random.default_rng(0)
    # Segments lie in squares, so that there is one that most of four pixels are.
    image = np.kron(rng.integers(0, 250, (3, 261, 322)), np.ones((1, 4, 4), int)).astype(dtype)
    path = tmp_path / 'a'
    write(path, format, image, chunk=(2, 256, 256))
    np.testing.assert_array_equal(read_whole(open_array(path)), image)
    expected = [image[:, ::step, ::step] for step in (1, 2, 4)]
    if format == 'precomputed':
        info = json.loads((path / 'info').read_text())
        shapes = [tuple(scale['size'][::-1]) for scale in info['scales']]
        scales = [scale['resolution'][::-1] for scale in info['scales']]
    else:
        group = zarr.open_group(path, mode='r')
        attributes = dict(group.attrs)
        levels = attributes.get('ome', attributes)['multiscales'][0]['datasets']
        shapes = [group[level['path']].shape for level in levels]
        for level, coarse in zip(levels, expected, strict=True):
            np.testing.assert_array_equal(group[level['path']][:], coarse)
        scales = [level['coordinateTransformations'][0]['scale'] for level in levels]
        places = [level['coordinateTransformations'][1:] for level in levels]
        centres = [(step - 1) / 2 for step in (1, 2, 4)]
        for place, centre in zip(places[1:], centres[1:], strict=True):
            z, y, x = RESOLUTION_NM
            assert place[0]['translation'] == [0, centre * y, centre * x]
    assert shapes == [level.shape for level in expected]
    z, y, x = RESOLUTION_NM
    assert scales == [[z, step * y, step * x] for step in (1, 2, 4)]
    write(path, format, image[:, ::4, ::4], chunk=(2, 256, 256))  # of fewer levels
    assert open_array(path).shape == (3, 261, 322)


def test_a_full_disk_is_one_message(tmp_path: Path):
    """A limit on the size of files ends writes as a full disk does, in a process of its own."""
    script = """
import resource, signal, sys
import numpy as np
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import FORMATS, write_array
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
noise = np.random.default_rng(0).integers(0, 256, (4, 300, 300)).astype(np.uint8)
for format in FORMATS:
    nm = None if format == 'png' else (40.0, 4.0, 4.0)
    try:
        write_array(sys.argv[1], noise, format=format, resolution_nm=nm, chunk=(4, 300, 300))
    except InputError as error:
        print(error)
"""
    path = tmp_path / 'a'
    command = [sys.executable, '-c', script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # HDF5 would crash the process at its end
    message = f'Cannot write {path}: File too large; nothing was changed there.'
    assert done.stdout.splitlines() == [message] * len(FORMATS)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('format', ['png', 'zarr2', 'zarr3', 'n5', 'precomputed'])
def test_foreign_folders_are_left_alone(tmp_path: Path, format: str):
    path = tmp_path / 'a'
    path.mkdir()
    write(path, format)  # an empty one may be taken
    np.testing.assert_array_equal(read_whole(open_array(path)), IMAGE)
    (path / 'notes.txt').write_text('keep me')
    other = tmp_path / 'b'
    other.mkdir()
    (other / 'notes.txt').write_text('keep me')
    for other_format in FORMATS:
        if other_format not in ('tiff', 'hdf5', format):
            write(tmp_path / 'c', other_format)
            break
    (tmp_path / 'file').write_text('keep me')
    before = tree(tmp_path)
    for name in ('a', 'b', 'c', 'file'):
        with pytest.raises(InputError, match=f'Cannot (write|replace) .*{name}'):
            write(tmp_path / name, format)
    assert tree(tmp_path) == before


@pytest.mark.parametrize('format', ['tiff', 'hdf5'])
def test_files_do_not_replace_folders(tmp_path: Path, format: str):
    (tmp_path / 'a').mkdir()
    with pytest.raises(InputError, match='there is a folder of that name'):
        write(tmp_path / 'a', format)
    (tmp_path / 'file').write_text('no folder')
    with pytest.raises(InputError, match=r'Cannot write .*file/a'):
        write(tmp_path / 'file' / 'a', format)


def test_other_hdf5_files_and_groups_are_left_alone(tmp_path: Path):
    (tmp_path / 'a.h5').write_text('keep me')
    with pytest.raises(InputError, match='as HDF5: there is a file of that name'):
        write(tmp_path / 'a.h5', None)
    assert (tmp_path / 'a.h5').read_text() == 'keep me'
    with h5py.File(tmp_path / 'b.h5', 'w') as file:
        file['volumes/raw'] = IMAGE
        file.attrs['note'] = 'keep me'
    with pytest.raises(InputError, match='there is a group of that name'):
        write(tmp_path / 'b.h5', None, dataset='volumes')
    write(tmp_path / 'b.h5', None, IMAGE // 2, dataset='volumes/more')
    with h5py.File(tmp_path / 'b.h5') as file:
        np.testing.assert_array_equal(file['volumes/raw'], IMAGE)
        np.testing.assert_array_equal(file['volumes/more'], IMAGE // 2)
        assert file.attrs['note'] == 'keep me'


@pytest.mark.parametrize('name', ['a.h5', 'a.zarr', 'a.n5'])
def test_no_dataset_inside_of_another(tmp_path: Path, name: str):
    write(tmp_path / name, None, dataset='raw')
    before = tree(tmp_path)
    with pytest.raises(InputError, match='raw is an? (dataset|array), and holds no others'):
        write(tmp_path / name, None, dataset='raw/more')
    assert tree(tmp_path) == before


@pytest.mark.parametrize('wrong', [(4, 4), (40, 4, 4, 4), 'abc', (40, 4, None)])
@pytest.mark.parametrize('name', ['resolution_nm', 'offset_nm'])
def test_places_are_three_numbers(tmp_path: Path, name: str, wrong: Any):
    with pytest.raises(InputError, match='as three numbers'):
        write_array(tmp_path / 'a.h5', IMAGE, **{'resolution_nm': (40, 4, 4), name: wrong})
    assert not (tmp_path / 'a.h5').exists()


@pytest.mark.parametrize('version', [2, 3])
def test_other_arrays_of_a_container_are_left_alone(tmp_path: Path, version: int):
    path, format = tmp_path / 'a.zarr', f'zarr{version}'
    group = zarr.open_group(path, mode='w', zarr_format=version)
    group.create_array('0', data=IMAGE)
    group.create_array('labels/ids', data=IMAGE)
    before = tree(tmp_path)
    with pytest.raises(InputError, match=r'Cannot replace .*more than one volume \(labels\)'):
        write(path, format)
    with pytest.raises(InputError, match='there is a group or folder of that name'):
        write(path, format, dataset='labels')
    with pytest.raises(InputError, match='which is an array itself'):
        write(path / '0', format, dataset='more')
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ('format', 'options', 'message'),
    [
        ('png', {'resolution_nm': RESOLUTION_NM}, 'PNG .*cannot store a voxel size'),
        ('png', {'offset_nm': (40.0, 0.0, 0.0)}, 'PNG cannot store an offset'),
        ('tiff', {'offset_nm': (40.0, 0.0, 0.0)}, 'TIFF cannot store an offset'),
        ('tiff', {'dataset': 'raw'}, 'holds one array only'),
        ('precomputed', {'dataset': 'raw'}, 'holds one array only'),
        ('precomputed', {'resolution_nm': None}, 'Expected a voxel size'),
        ('precomputed', {'offset_nm': (40.0, 0.0, 2.0)}, 'offset of .* as whole voxels'),
        ('zarr2', {'resolution_nm': None, 'offset_nm': (40.0, 0.0, 0.0)}, 'give both'),
        ('n5', {'resolution_nm': (40.0, 0.0, 4.0)}, 'above 0'),
        ('hdf5', {'resolution_nm': (40.0, 4.0, float('nan'))}, 'above 0'),
    ],
)
def test_what_a_format_cannot_store_is_refused(
    tmp_path: Path, format: str, options: dict[str, Any], message: str
):
    with pytest.raises(InputError, match=message):
        write(tmp_path / 'a', format, **options)
    assert os.listdir(tmp_path) == []


def test_the_origin_is_no_offset(tmp_path: Path):
    for format in FORMATS:
        write(tmp_path / format, format, offset_nm=(0.0, 0.0, 0.0))


@pytest.mark.parametrize('array', [IMAGE[0], IMAGE[np.newaxis], IMAGE[:, :0]])
def test_only_stacks_are_written(tmp_path: Path, array: np.ndarray):
    with pytest.raises(InputError, match=r'Expected a stack \[z, y, x\] for '):
        write(tmp_path / 'a.tif', None, array)


@pytest.mark.parametrize('format', FORMATS)
def test_no_more_than_a_slab_is_asked_for(tmp_path: Path, format: str, monkeypatch):
    monkeypatch.setattr(sections, '_SLAB_BYTES', 2 * 8 * 34 * 2)
    asked: list[tuple[int, int]] = []

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        asked.append((z, rows.stop - rows.start))
        return IMAGE[z, rows, columns]

    write(tmp_path / 'a', format, LazySections(IMAGE.shape, np.uint8, read))
    np.testing.assert_array_equal(read_whole(open_array(tmp_path / 'a')), IMAGE)
    assert sum(rows for _, rows in asked) == IMAGE.shape[0] * IMAGE.shape[1]  # each once
    assert max(rows for _, rows in asked) == (21 if format in ('tiff', 'png') else 16)
