"""Files that are easily taken for something else, read as what they are or refused."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from taclnet_jax.errors import InputError
from taclnet_jax.volumes import open_array, read_whole, write_array

STACK = np.random.default_rng(0).integers(0, 256, (5, 20, 30)).astype(np.uint8)
ORDERS = ['xyz', 'zxy', 'yxz', 'xzy', 'yzx']


def in_order(order: str) -> np.ndarray:
    """The stack with its axes as they are named."""
    return np.ascontiguousarray(STACK.transpose(*('zyx'.index(axis) for axis in order)))


@pytest.mark.parametrize('order', ORDERS)
@pytest.mark.parametrize('how', ['axistags', 'labels', 'scales', 'tiff', 'deflated', 'zarr'])
def test_named_axes_are_turned_in_every_format(tmp_path: Path, order: str, how: str):
    array = in_order(order)
    if how in ('tiff', 'deflated'):
        path = tmp_path / 'a.tif'
        metadata, compression = {'axes': order.upper()}, 'zlib' if how == 'deflated' else None
        tifffile.imwrite(
            path, array, photometric='minisblack', metadata=metadata, compression=compression
        )
    elif how == 'zarr':
        path = tmp_path / 'a.zarr'
        tags = json.dumps({'axes': [{'key': key} for key in order]})
        zarr.create_array(path, data=array).attrs['axistags'] = tags
    else:
        path = tmp_path / 'a.h5'
        with h5py.File(path, 'w') as file:
            stored = file.create_dataset('main', data=array)
            if how == 'axistags':  # as ilastik writes it
                axes = [{'key': key, 'typeFlags': 2, 'resolution': 0} for key in order]
                stored.attrs['axistags'] = json.dumps({'axes': axes})
            for place, axis in enumerate(order):
                if how == 'labels':
                    stored.dims[place].label = axis
                elif how == 'scales':  # as netCDF does
                    scale = file.create_dataset(f'grid/{axis}', data=np.arange(array.shape[place]))
                    scale.make_scale()
                    stored.dims[place].attach_scale(scale)
    opened = open_array(path, dataset='main' if path.suffix == '.h5' else '')
    np.testing.assert_array_equal(read_whole(opened), STACK)
    np.testing.assert_array_equal(opened[2, 3:11, 4:9], STACK[2, 3:11, 4:9])


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_images_in_which_0_is_white_are_as_on_screen_and_labels_as_stored(tmp_path, dtype):
    stack = STACK.astype(dtype)
    tifffile.imwrite(tmp_path / 'w.tif', stack, photometric='miniswhite')
    np.testing.assert_array_equal(
        read_whole(open_array(tmp_path / 'w.tif')), np.iinfo(dtype).max - stack
    )
    np.testing.assert_array_equal(read_whole(open_array(tmp_path / 'w.tif', 'labels')), stack)
    (tmp_path / 'sections').mkdir()
    tifffile.imwrite(tmp_path / 'sections' / '0.tif', stack[0], photometric='miniswhite')
    inverted = open_array(tmp_path / 'sections')[0]
    np.testing.assert_array_equal(inverted, np.iinfo(dtype).max - stack[0])
    tifffile.imwrite(tmp_path / 'f.tif', STACK.astype('f4'), photometric='miniswhite')
    with pytest.raises(InputError, match='Expected 0 as black'):
        open_array(tmp_path / 'f.tif')


def test_the_indices_of_a_palette_are_labels_and_no_grey_values(tmp_path: Path):
    colours = np.random.default_rng(0).integers(0, 2**16, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / 'p.tif', STACK, photometric='palette', colormap=colours)
    (tmp_path / 'png').mkdir()
    for z, section in enumerate(STACK):
        picture = Image.fromarray(section).convert('P')
        picture.putpalette((colours // 256).astype(np.uint8).T.tobytes())
        picture.save(tmp_path / 'png' / f'{z}.png')
    for name in ('p.tif', 'png'):
        np.testing.assert_array_equal(read_whole(open_array(tmp_path / name, 'labels')), STACK)
        with pytest.raises(InputError, match='colour'):
            open_array(tmp_path / name)


@pytest.mark.filterwarnings('ignore')  # zarr: not all versions know these codecs
@pytest.mark.parametrize(
    ('version', 'options', 'name'),
    [
        (2, {'compressors': numcodecs.LZ4()}, 'lz4'),
        (2, {'compressors': numcodecs.Zstd(checksum=True)}, 'zstd'),
        (2, {'filters': [numcodecs.Delta('u1')]}, 'delta'),
        (3, {'filters': [{'name': 'numcodecs.delta', 'configuration': {'dtype': 'u1'}}]}, 'delta'),
        ('n5', {}, 'lz4'),
        ('precomputed', {}, 'zfpc'),
    ],
)
def test_a_codec_that_is_lacking_is_named_with_what_to_save_as(tmp_path, version, options, name):
    path = tmp_path / 'a'
    if version in (2, 3):
        zarr.create_array(path, data=STACK, zarr_format=version, **options)
    else:
        write_array(path, STACK, format=version, resolution_nm=(40, 4, 4))
        file = next(path.glob('s0/attributes.json'), path / 'info')
        about = json.loads(file.read_text())
        if version == 'n5':
            about['compression'] = {'type': 'lz4', 'blockSize': 65536}
        else:
            about['scales'][0]['encoding'] = 'zfpc'
        file.write_text(json.dumps(about))
    with pytest.raises(InputError, match=f'is stored with .*{name}.*save it again with gzip'):
        open_array(path)


@pytest.mark.parametrize(
    ('name', 'file', 'text'),
    [
        ('a', 'info', 'made with microscope X'),
        ('b', 'info', '{"pixel": 4}'),
        ('c', 'attributes.json', '{"pixel": 4}'),
        ('stack.n5', None, ''),
        ('stack.zarr', None, ''),
    ],
)
def test_folders_of_sections_are_told_by_what_is_in_them(tmp_path, name, file, text):
    write_array(tmp_path / 'x', STACK, format='png')
    path = (tmp_path / 'x').rename(tmp_path / name)
    if file:
        (path / file).write_text(text)
    np.testing.assert_array_equal(read_whole(open_array(path)), STACK)


@pytest.mark.parametrize('format', ['zarr2', 'zarr3', 'n5', 'precomputed'])
def test_a_picture_beside_an_array_changes_nothing(tmp_path: Path, format: str):
    write_array(tmp_path / 'a', STACK, format=format, resolution_nm=(40, 4, 4))
    Image.fromarray(STACK[0]).save(tmp_path / 'a' / 'thumbnail.png')
    np.testing.assert_array_equal(read_whole(open_array(tmp_path / 'a')), STACK)


def sections(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for name in names:
        Image.fromarray(STACK[0]).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ('names', 'numbers', 'gaps'),
    [
        ([f'{n:03}.png' for n in range(7, 12)], (7, 8, 9, 10, 11), ()),
        ([f'{n:03}.png' for n in (0, 1, 2, 4, 5, 8)], (0, 1, 2, 4, 5, 8), (3, 5)),
        ([f'vol2_z{n}_4nm.png' for n in (0, 40, 80, 160)], (0, 40, 80, 160), (3,)),
        ([f'{c}.png' for c in 'abcd'], None, ()),
        (['z0.png', 'Z1.png', 'z2.png', 'Z3.png'], (0, 1, 2, 3), ()),
    ],
)
def test_numbers_in_names_tell_of_gaps(tmp_path, caplog, names, numbers, gaps):
    opened = open_array(sections(tmp_path / 'a', names))
    assert opened.numbers == numbers and opened.gaps == gaps
    told = [r.getMessage() for r in caplog.records if 'Sections are missing' in r.getMessage()]
    assert len(told) == len(gaps)
    for z, message in zip(gaps, told, strict=True):
        assert f'{names[z]} follows {names[z - 1]}' in message


def test_a_foreign_picture_among_sections_is_named(tmp_path: Path):
    path = sections(tmp_path / 'a', [*(f'{n:03}.png' for n in range(4)), 'overview.png'])
    with pytest.raises(InputError, match=r'4 of 5 are, as 000.png, but not overview.png'):
        open_array(path)
