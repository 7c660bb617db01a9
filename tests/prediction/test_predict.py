"""Boxes, masks, voxel sizes, formats, and all that is refused before anything is written."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorstore as ts
import tifffile
import zarr
from made_up import EVERY, RESOLUTION_NM, image, predicted, tiny, write_run
from PIL import Image

from taclnet_jax.data.normalisation import normalised
from taclnet_jax.data.resolution import resampled
from taclnet_jax.errors import InputError
from taclnet_jax.prediction import predict
from taclnet_jax.prediction.engine import run_pass
from taclnet_jax.prediction.job import Job
from taclnet_jax.prediction.numbering import Numbering
from taclnet_jax.prediction.passes import Passes
from taclnet_jax.prediction.predict import Options, predict_volume
from taclnet_jax.volumes import (
    FORMATS,
    as_uint8_sections,
    chunked,
    open_array,
    read_whole,
    write_array,
)

SHAPE = (3, 64, 96)  # 2 x 3 windows
OFFSET_NM = (400.0, 40.0, 80.0)
Calls = dict[str, list[tuple[int, int, int]]]


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """All of the volume."""
    return predicted(tmp_path_factory.mktemp('whole'), tiny(), image(SHAPE))


@pytest.fixture(scope='module')
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the network."""
    return write_run(tmp_path_factory.mktemp('run') / 'run', tiny())


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """The volume, with voxel size and offset."""
    path = tmp_path / 'volume.zarr'
    write_array(
        path,
        image(SHAPE),
        resolution_nm=RESOLUTION_NM,
        offset_nm=OFFSET_NM,
        chunk=(1, 32, 32),
        format='zarr3',
    )
    return path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The blocks that each pass was called with."""
    found: Calls = {}

    def count(name: str) -> None:
        real, found[name] = getattr(Passes, name), []

        def counted(passes: Passes, index: tuple[int, int, int]) -> None:
            found[name].append(index)
            real(passes, index)

        monkeypatch.setattr(Passes, name, counted)

    for name in ('measure', 'predict', 'attend', 'finish'):
        count(name)
    return found


def tree(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


# --- Boxes


@pytest.mark.parametrize('box', ['1:3,10:50,40:90', '440:520,80:240,240:440nm'])
def test_a_box_is_cut_from_the_whole(
    tmp_path: Path, volume: Path, whole: dict[str, np.ndarray], box: str
) -> None:
    options = Options(names=EVERY, dtype='float32', format='zarr3', box=box)
    files = predict_volume(tiny(), str(volume), tmp_path / 'out', options)
    found = {name: open_array(files[name]) for name in EVERY}
    for array in found.values():
        assert array.shape == (2, 40, 50)
        assert array.resolution_nm == RESOLUTION_NM
        assert array.offset_nm == (440.0, 80.0, 240.0)
    there = np.s_[1:3, 10:50, 40:90]
    np.testing.assert_allclose(read_whole(found['membrane']), whole['membrane'][there], atol=1e-5)
    about = json.loads((tmp_path / 'out' / 'prediction.json').read_text())
    assert about['box'] == [[1, 3], [10, 50], [40, 90]] and about['offset_nm'] == [440, 80, 240]


def test_attention_of_a_box_ends_with_its_windows(
    tmp_path: Path, whole: dict[str, np.ndarray]
) -> None:
    # Of which this box has all, in y; in x those of its first 64 pixels.
    found = predicted(tmp_path, tiny(), image(SHAPE), box='0:3,0:64,0:40')
    np.testing.assert_allclose(found['membrane'], whole['membrane'][:, :, :40], atol=1e-5)
    # The windows on its left see the same as in the whole, but for what the third says of them.
    np.testing.assert_allclose(found['refined'][..., :24], whole['refined'][..., :24], atol=1e-5)
    assert not np.allclose(found['attention'], whole['attention'][:, :, :40], atol=1e-5)


@pytest.mark.parametrize('box', ['0:3,0:64,64:128', '1:2,64:130,63:65'])
def test_a_box_at_half_resolution_is_cut_from_the_whole(tmp_path: Path, box: str) -> None:
    # Whose maps are interpolated from pixels beyond the box's windows.
    used, stack = tiny(downsample=2), image((3, 131, 192))
    expected = predicted(tmp_path, used, stack, names=['membrane'])['membrane']
    found = predicted(tmp_path, used, names=['membrane'], box=box)['membrane']
    there = tuple(slice(*map(int, side.split(':'))) for side in box.split(','))
    np.testing.assert_allclose(found, expected[there], atol=1e-5)


# --- Masks


def test_blocks_without_mask_are_left_out(
    tmp_path: Path, whole: dict[str, np.ndarray], calls: Calls
) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[0, 40, 10] = 1
    write_array(tmp_path / 'mask.zarr', mask)
    options = {'mask': str(tmp_path / 'mask.zarr'), 'block': (2, 1)}
    found = predicted(tmp_path, tiny(), image(SHAPE), **options)
    # Its window sees P of those around it.
    assert sorted(calls['predict']) == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)]
    assert calls['attend'] == calls['finish'] == [(0, 1, 0)]
    inside = np.s_[:2, 32:, :32]
    np.testing.assert_allclose(found['membrane'][inside], whole['membrane'][inside], atol=1e-5)
    assert (found['segments'][inside] > 0).any()
    for array in found.values():
        array[inside] = 0
        assert not array.any()


@pytest.mark.parametrize(
    ('shape', 'box', 'message'),
    [
        (SHAPE, '', 'is 0 throughout'),
        (SHAPE, '0:3,0:20,0:20', 'is 0 throughout'),
        ((3, 64, 95), '', 'size of the volume'),
    ],
)
def test_masks_of_nothing_and_of_another_volume(
    tmp_path: Path, shape: tuple[int, int, int], box: str, message: str
) -> None:
    mask = np.zeros(shape, bool)
    mask[0, 40, 90] = bool(box)
    write_array(tmp_path / 'mask.zarr', mask)
    with pytest.raises(InputError, match=message):
        predicted(tmp_path, tiny(), image(SHAPE), mask=str(tmp_path / 'mask.zarr'), box=box)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['mask.zarr', 'stack.tif']


# --- Voxel sizes


@pytest.mark.parametrize(
    ('shape', 'nm', 'box'),
    [
        ((3, 33, 40), 8.0, '1:3,0:16,16:32'),
        pytest.param((3, 85, 128), 3.0, '1:3,4:42,43:86', marks=pytest.mark.slow),
    ],
)
def test_other_voxels_are_predicted_at_the_models_and_come_back(
    tmp_path: Path, shape: tuple[int, int, int], nm: float, box: str
) -> None:
    write_array(tmp_path / 'a.zarr', image(shape), resolution_nm=(40, nm, nm), format='zarr3')
    options = {'names': ('membrane', 'segments'), 'dtype': 'float32', 'resample': True}

    def back(**changes: Any) -> dict[str, np.ndarray]:
        chosen = Options(**options | {'overwrite': True} | changes)
        files = predict_volume(tiny(), f'{tmp_path}/a.zarr', tmp_path / 'out', chosen)
        return {name: tifffile.imread(files[name]) for name in options['names']}

    found = back()
    size = tuple(round(n * nm / 4) for n in shape[1:])
    theirs = predicted(tmp_path, tiny(), read_whole(resampled(image(shape), size, order=1)))
    for name, order in (('membrane', 1), ('segments', 0)):
        expected = read_whole(resampled(theirs[name], shape[1:], order))
        assert found[name].shape == shape and found[name].dtype == expected.dtype
        np.testing.assert_allclose(found[name], expected, atol=1e-5)
    assert len(np.unique(found['segments'])) > 5
    there = tuple(slice(*map(int, side.split(':'))) for side in box.split(','))
    cut = back(box=box)['membrane']
    np.testing.assert_allclose(cut, found['membrane'][there], atol=1e-5)


@pytest.mark.parametrize(
    ('theirs', 'ours', 'options', 'zoom'),
    [
        ((40, 5.9, 4), RESOLUTION_NM, {}, (1, 1)),
        ((40, 6, 4), RESOLUTION_NM, {}, 'found .*40.*6.*4.* nm'),
        ((40, 4, 2.6), RESOLUTION_NM, {}, '--resample, or in spite of it with --force'),
        ((40, 6, 4), RESOLUTION_NM, {'force': True}, (1, 1)),
        ((40, 6, 4), RESOLUTION_NM, {'resample': True}, (1.5, 1)),
        ((60, 4, 4), RESOLUTION_NM, {'resample': True}, 'voxels of about'),
        ((26, 6, 4), RESOLUTION_NM, {'resample': True}, 'voxels of about'),
        ((60, 4, 4), RESOLUTION_NM, {}, r'is not resampled: predict .* with --force\.$'),
        ((60, 6, 4), RESOLUTION_NM, {}, r'with --force, and .* in y and x with --resample\.$'),
        ((60, 6, 4), RESOLUTION_NM, {'resample': True}, r'in spite of it with --force\.$'),
        (None, RESOLUTION_NM, {'voxel_nm': ('40', '6', '4'), 'resample': True}, (1.5, 1)),
        ((40, 4, 4), RESOLUTION_NM, {'voxel_nm': (40, 6, 4)}, 'found .*40.*6.*4.* nm'),
        ((40, 6, 4), RESOLUTION_NM, {'voxel_nm': RESOLUTION_NM, 'resample': True}, (1, 1)),
        (None, RESOLUTION_NM, {'voxel_nm': ('40', '0', '4')}, 'three sizes above 0'),
        ((60, 6, 4), RESOLUTION_NM, {'resample': True, 'force': True}, (1.5, 1)),
        (None, RESOLUTION_NM, {}, (1, 1)),
        (None, RESOLUTION_NM, {'resample': True}, 'does not say its own'),
        ((40, 4, 4), None, {'resample': True}, 'the run does not say its own'),
        ((40, 9, 9), None, {}, (1, 1)),
    ],
)
def test_voxel_sizes(
    tmp_path: Path,
    theirs: tuple[float, float, float] | None,
    ours: tuple[float, float, float] | None,
    options: dict[str, Any],
    zoom: tuple[float, float] | str,
) -> None:
    write_array(tmp_path / 'a.zarr', image((3, 8, 8)), resolution_nm=theirs)
    used = dataclasses.replace(tiny(), resolution_nm=ours)
    if isinstance(zoom, str):
        with pytest.raises(InputError, match=zoom):
            predict.describe(used, f'{tmp_path}/a.zarr', Options(**options))
    else:
        job = predict.describe(used, f'{tmp_path}/a.zarr', Options(**options))
        assert job.zoom == zoom


def test_a_voxel_size_that_is_given_is_carried_on(tmp_path: Path) -> None:
    write_array(tmp_path / 'a.tif', image((3, 24, 24)))
    options = Options(names=('segments', 'refined'), format='zarr3', voxel_nm=(50, 5, 4))
    predict_volume(tiny(), f'{tmp_path}/a.tif', tmp_path / 'out', options)
    about = json.loads((tmp_path / 'out' / 'prediction.json').read_text())
    assert about['resolution_nm'] == [50, 5, 4]
    assert open_array(tmp_path / 'out' / 'refined.zarr').resolution_nm == (50, 5, 4)
    described = predict.describe(tiny(), f'{tmp_path}/a.tif', options)
    described.write(tmp_path / 'job.json')
    assert Job.read(tmp_path / 'job.json') == described


def test_the_cut_of_the_segments_is_told(tmp_path: Path) -> None:
    write_array(tmp_path / 'a.tif', image((3, 24, 24)), resolution_nm=RESOLUTION_NM)
    threshold, closing = tiny().cut('P_hat_closed')
    for names, cut in (
        (('membrane', 'segments'), {'threshold': threshold, 'closing': closing}),
        (('membrane',), None),
    ):
        options = Options(names=names, overwrite=True)
        predict_volume(tiny(), f'{tmp_path}/a.tif', tmp_path / 'out', options)
        assert json.loads((tmp_path / 'out' / 'prediction.json').read_text())['cut'] == cut
        page = (tmp_path / 'out' / 'report.html').read_text()
        assert (f'P_hat from {threshold:.3g} on is membrane' in page) == (cut is not None)


def test_a_voxel_size_that_is_somewhat_other_is_said(tmp_path: Path, caplog: Any) -> None:
    write_array(tmp_path / 'a.zarr', image((3, 8, 8)), resolution_nm=(40, 5, 5))
    predict.describe(tiny(), f'{tmp_path}/a.zarr', Options())
    assert 'trained on voxels of (40.0, 4.0, 4.0) nm' in caplog.text
    caplog.clear()
    predict.describe(tiny(), f'{tmp_path}/a.zarr', Options(resample=True))
    assert not caplog.records


def test_no_window_reaches_across_missing_sections(tmp_path: Path) -> None:
    stack = image((7, 40, 48))
    (tmp_path / 'sections').mkdir()
    for number, section in zip((0, 1, 2, 5, 6, 7, 8), stack, strict=True):
        tifffile.imwrite(tmp_path / 'sections' / f'{number:02}.tif', section)
    options = Options(names=['membrane'], dtype='float32')
    files = predict_volume(tiny(), str(tmp_path / 'sections'), tmp_path / 'out', options)
    whole = tifffile.imread(files['membrane'])
    for first, stop in ((0, 3), (3, 7)):
        part = predicted(tmp_path / str(first), tiny(), stack[first:stop], names=['membrane'])
        np.testing.assert_allclose(whole[first:stop], part['membrane'], atol=1e-6)


def test_pieces_shorter_than_a_window_are_told(tmp_path: Path, caplog: Any) -> None:
    (tmp_path / 'sections').mkdir()
    for number in (0, 1, 2, 5, 7, 8, 9, 12, 13):
        tifffile.imwrite(tmp_path / 'sections' / f'{number:02}.tif', image((1, 8, 8))[0])
    predict.describe(tiny(), str(tmp_path / 'sections'), Options())
    assert 'than the 3 that the network sees together: 3 to 3, 7 to 8 (' in caplog.text
    caplog.clear()
    predict.describe(tiny(), str(tmp_path / 'sections'), Options(box='4:7,0:8,0:8'))
    assert 'sees together' not in caplog.text


def test_strict_refuses_a_volume_with_lost_chunks(
    tmp_path: Path, run_folder: Path, refused: Callable[..., str]
) -> None:
    write_array(tmp_path / 'a.zarr', image(SHAPE), resolution_nm=RESOLUTION_NM)
    next((tmp_path / 'a.zarr' / '0').glob('*/*/*')).unlink()
    given = command(run_folder, tmp_path / 'a.zarr', tmp_path / 'out', '--strict')
    assert 'chunks of the image' in refused(*given)
    assert not (tmp_path / 'out').exists()


def test_places_that_lie_above_and_behind_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_array(tmp_path / 'stack.tif', image((3, 16, 16)))
    (tmp_path / 'here').mkdir()
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'link').symlink_to('elsewhere')
    monkeypatch.chdir(tmp_path / 'here')
    for output in ('../predictions', '../link'):
        predict_volume(tiny(), '../stack.tif', output, Options(names=['membrane']))
        assert Path(output, 'membrane.tif').exists()
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'elsewhere/membrane.tif').exists()
    again = Options(names=['membrane'], overwrite=True)
    with pytest.raises(InputError, match='apart from --input, found .*membrane.tif inside'):
        predict_volume(tiny(), '../predictions/membrane.tif', '../predictions', again)
    assert Path('../predictions/membrane.tif').exists()


def test_an_offset_without_voxel_size_is_left_out(tmp_path: Path) -> None:
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        file['raw'] = image(SHAPE)
        file['raw'].attrs['offset'] = (40.0, 8.0, 8.0)
    options = Options(names=['membrane'], format='hdf5', box='0:1,0:9,0:9')
    files = predict_volume(tiny(), f'{tmp_path}/a.h5', tmp_path / 'out', options)
    assert open_array(files['membrane'], dataset='volumes/membrane').shape == (1, 9, 9)


# --- Formats


def by_library(path: Path, format: str, name: str) -> np.ndarray:
    """An array, read by the library that has its format."""
    if format == 'png':
        return np.stack([np.asarray(Image.open(file)) for file in sorted(path.iterdir())])
    if format == 'hdf5':
        with h5py.File(path) as file:
            return file[f'volumes/{name.replace("segments", "labels/neuron_ids")}'][:]
    if format in ('zarr2', 'zarr3'):
        return zarr.open_group(path, mode='r')['0'][:]
    if format in ('n5', 'precomputed'):
        driver = {'n5': 'n5', 'precomputed': 'neuroglancer_precomputed'}[format]
        place = path / 's0' if format == 'n5' else path
        spec = {'driver': driver, 'kvstore': {'driver': 'file', 'path': f'{place}/'}}
        array = ts.open(spec).result()
        array = array[ts.d['channel'][0]] if format == 'precomputed' else array
        return array.T.read().result()
    return tifffile.imread(path)


def _suffix(format: str) -> str:
    return {'tiff': '.tif', 'hdf5': '.h5', 'n5': '.n5', 'precomputed': '', 'png': ''}.get(
        format, '.zarr'
    )


def check_formats(
    folder: Path, volume: str, box: str, formats: tuple[str, ...] = FORMATS, **options: Any
) -> dict[str, np.ndarray]:
    """Predicts into every format, all of which hold the same; returns it."""
    names = ('membrane', 'segments')
    first: dict[str, np.ndarray] = {}
    for format in formats:
        chosen = Options(names=names, format=format, box=box, **options)
        files = predict_volume(tiny(), volume, folder / format, chosen)
        for name in names:
            array = by_library(Path(files[name]), format, name)
            np.testing.assert_array_equal(array, first.setdefault(name, array), format)
    return first


@pytest.mark.slow
@pytest.mark.parametrize('dtype', ['uint8', 'float32'])
def test_formats_hold_the_same(
    tmp_path: Path, volume: Path, whole: dict[str, np.ndarray], dtype: str
) -> None:
    formats = tuple(format for format in FORMATS if (format, dtype) != ('png', 'float32'))
    found = check_formats(tmp_path, str(volume), '1:3,10:50,40:90', formats, dtype=dtype)
    assert found['membrane'].dtype == dtype
    scale, precision = (255, 0.51) if dtype == 'uint8' else (1, 1e-5)
    expected = scale * whole['membrane'][1:3, 10:50, 40:90]
    np.testing.assert_allclose(found['membrane'], expected, atol=precision)
    for format in ('zarr2', 'n5', 'precomputed'):
        array = open_array(next((tmp_path / format).glob('membrane*')))
        assert (array.resolution_nm, array.offset_nm) == (RESOLUTION_NM, (440.0, 80.0, 240.0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ('data_set', 'file', 'box'),
    [
        ('isbi12', 'test-volume.tif', '10:13,100:164,200:264'),
        ('snemi3d', 'train-input.tif', '97:100,0:50,1000:1024'),
    ],
)
def test_real_stacks(tmp_path: Path, data_dir: Path, data_set: str, file: str, box: str) -> None:
    path = data_dir / data_set / file
    if not path.exists():
        pytest.skip(f'there is no {path}')
    found = check_formats(tmp_path, str(path), box, ('tiff', 'hdf5', 'zarr3'), force=True)
    z, y, x = (slice(*map(int, side.split(':'))) for side in box.split(','))
    sections = as_uint8_sections(open_array(path), str(path))
    stretch = range(sections.shape[0])
    used, seen = tiny(), normalised(sections)
    prob = used.inference.prob(used.variables, seen, z.start, stretch, (y, x))[1]
    np.testing.assert_allclose(found['membrane'][0], 255 * prob, atol=0.51)


@pytest.mark.slow
@pytest.mark.parametrize('format', FORMATS)
def test_more_segments_than_16_bits_hold(
    tmp_path: Path, volume: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    options = Options(names=['segments'], format=format)
    files = predict_volume(tiny(), str(volume), tmp_path / 'few', options)
    few = by_library(Path(files['segments']), format, 'segments')
    real = Numbering.__init__

    def many(numbering: Numbering, *args: Any) -> None:
        real(numbering, *args)
        numbering._offsets += 2**16
        numbering._from, numbering._to = numbering._from + 2**16, numbering._to + 2**16
        numbering.largest += 2**16

    monkeypatch.setattr(Numbering, '__init__', many)
    files = predict_volume(tiny(), str(volume), tmp_path / 'many', options)
    path = Path(files['segments'])
    # PNG has 16 bits at most.
    assert path.suffix == ('.tif' if format == 'png' else _suffix(format))
    found = by_library(path, 'tiff' if format == 'png' else format, 'segments')
    assert found.dtype == np.uint32
    np.testing.assert_array_equal(found, np.where(few > 0, few.astype(np.uint32) + 2**16, 0))
    about = json.loads((tmp_path / 'many' / 'prediction.json').read_text())
    assert about['files']['segments'] == path.name


def test_addresses_of_files_are_paths(tmp_path: Path, volume: Path) -> None:
    options = Options(names=['membrane'])
    output = (tmp_path / 'new folder' / 'out').as_uri()
    files = predict_volume(tiny(), volume.as_uri(), output, options)
    assert files['membrane'] == str(tmp_path / 'new folder' / 'out' / 'membrane.tif')
    assert tifffile.imread(files['membrane']).shape == SHAPE


# --- What is refused


def command(run_folder: Path, input_path: Path | str, output: Path, *flags: str) -> list[str]:
    model = f'--workdir={run_folder}'
    return ['--mode=predict', model, f'--input={input_path}', f'--output={output}', *flags]


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--box=0:3,0:64,0:97'], 'within the volume of (3, 64, 96)'),
        (['--box=-1:3,0:64,0:96'], 'within the volume'),
        (['--box=2:1,0:64,0:96'], 'each end above its start'),
        (['--box=0:3,0:64'], 'Expected --box'),
        (['--box=0:3,0:64,0:96,0:1'], 'Expected --box'),
        (['--box=0:3,0:64,a:b'], 'Expected --box'),
        (['--box=0.5:3,0:64,0:96'], 'Expected --box'),
        (['--box=0:3,0:64,0:infnm'], 'Expected --box'),
        (['--box=0:3,0:64,nan:5nm'], 'Expected --box'),
        (['--box=0:40,0:40,0:400nm'], 'within the volume'),  # before its offset
        (['--names=cells'], "one of membrane, refined, attention, segments; found 'cells'"),
        (['--format=jpeg'], 'jpeg'),
        (['--dtype=int8'], 'int8'),
        (['--format=png', '--dtype=float32'], 'types that png can store'),
        (['--worker_command=srun "'], 'as a shell takes it'),
        (['--mask=nowhere.tif'], 'nowhere.tif'),
        (['--input_dataset=nowhere'], 'nowhere'),
        (['--scratch={output}/scratch'], 'apart from each other'),
    ],
)
def test_flags_that_are_refused(
    tmp_path: Path,
    volume: Path,
    run_folder: Path,
    refused: Callable[..., str],
    flags: list[str],
    message: str,
) -> None:
    before = tree(tmp_path)
    flags = [flag.format(output=tmp_path / 'out') for flag in flags]
    assert message in refused(*command(run_folder, volume, tmp_path / 'out', *flags))
    assert tree(tmp_path) == before and not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('shape', 'nm', 'flags', 'message'),
    [
        ((70, 64, 8), RESOLUTION_NM, [], 'look like [x, y, z]'),
        ((2, 64, 96), RESOLUTION_NM, [], 'window of 3 slices'),
        (SHAPE, None, ['--format=precomputed'], 'precomputed cannot do without'),
        (SHAPE, None, ['--box=0:3,0:64,0:96nm'], 'does not say its voxel size'),
        (
            SHAPE,
            None,
            ['--format=n5', '--output=ftp://place/out'],
            'gs://bucket/folder or s3://bucket/folder',
        ),
        (
            SHAPE,
            None,
            ['--format=n5', '--output=s3://bucket'],
            'gs://bucket/folder or s3://bucket/folder',
        ),
    ],
)
def test_volumes_that_are_refused(
    tmp_path: Path,
    run_folder: Path,
    refused: Callable[..., str],
    shape: tuple[int, int, int],
    nm: tuple[float, float, float] | None,
    flags: list[str],
    message: str,
) -> None:
    write_array(tmp_path / 'a.zarr', image(shape), resolution_nm=nm)
    volume = tmp_path / 'a.zarr'
    assert message in refused(*command(run_folder, volume, tmp_path / 'out', *flags))
    assert [path.name for path in tmp_path.iterdir()] == ['a.zarr']


def test_an_offset_that_precomputed_cannot_hold_is_refused_before_the_work(
    tmp_path: Path, run_folder: Path, refused: Callable[..., str], calls: Calls
) -> None:
    volume = tmp_path / 'a.zarr'
    write_array(volume, image(SHAPE), resolution_nm=RESOLUTION_NM, offset_nm=(40, 2, 0))
    flags = ['--format=precomputed', '--names=segments']
    assert 'as whole voxels' in refused(*command(run_folder, volume, tmp_path / 'out', *flags))
    assert not any(calls.values())
    assert [path.name for path in tmp_path.iterdir()] == ['a.zarr']


def without_checkpoint(run: Path) -> None:
    for path in (run / 'checkpoints').rglob('*'):
        if path.is_file():
            path.unlink()
    for path in sorted((run / 'checkpoints').rglob('*'), reverse=True):
        path.rmdir()


def half_a_checkpoint(run: Path) -> None:
    for path in (run / 'checkpoints').rglob('*'):
        if path.is_file() and path.parent.name == 'd':
            path.unlink()


def no_threshold(run: Path) -> None:
    (run / 'results.json').unlink()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (without_checkpoint, 'found no checkpoint'),
        (half_a_checkpoint, 'cannot be read'),
        (no_threshold, '--mode=evaluate'),
    ],
)
def test_runs_that_are_refused(
    tmp_path: Path,
    volume: Path,
    refused: Callable[..., str],
    change: Callable[[Path], None],
    message: str,
) -> None:
    run = write_run(tmp_path / 'run', tiny())
    change(run)
    before = tree(tmp_path)
    assert message in refused(*command(run, volume, tmp_path / 'out'))
    assert tree(tmp_path) == before and not (tmp_path / 'out').exists()


def test_an_older_prediction_is_replaced_only_when_asked(
    tmp_path: Path,
    volume: Path,
    run_folder: Path,
    refused: Callable[..., str],
    run_command: Callable[..., tuple[int, str]],
) -> None:
    out = tmp_path / 'out'
    first = command(run_folder, volume, out, '--box=0:1,0:9,0:9', '--names=membrane')
    status, output = run_command(*first)
    assert status == 0, output
    before = tree(tmp_path)
    message = refused(*command(run_folder, volume, out, '--names=segments'))
    assert f'the prediction of {volume}, box [[0, 1], [0, 9], [0, 9]]' in message
    assert str(run_folder) in message and '--overwrite' in message
    assert tree(tmp_path) == before
    # With something else in it, it is not touched at all.
    (out / 'notes.txt').write_text('mine')
    assert 'notes.txt' in refused(*command(run_folder, volume, out, '--overwrite'))
    assert tree(tmp_path) == before | {'out/notes.txt': b'mine'}
    (out / 'notes.txt').unlink()
    status, output = run_command(
        *command(run_folder, volume, out, '--names=segments', '--overwrite')
    )
    assert status == 0, output
    assert {path.name for path in out.iterdir()} == {
        'segments.tif',
        'section.png',
        'report.html',
        'prediction.json',
    }
    assert {path.name for path in tmp_path.iterdir()} == {'out', 'volume.zarr'}


@pytest.mark.parametrize('overwrite', [[], ['--overwrite']])
def test_folders_and_files_of_others_are_kept(
    tmp_path: Path,
    volume: Path,
    run_folder: Path,
    refused: Callable[..., str],
    overwrite: list[str],
) -> None:
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'folder' / 'prediction.json').write_text('[1]')
    (tmp_path / 'file').write_text('mine')
    before = tree(tmp_path)
    for name in ('folder', 'file'):
        message = refused(*command(run_folder, volume, tmp_path / name, *overwrite))
        assert f'{tmp_path}/{name}' in message
        scratch = f'--scratch={tmp_path}/{name}'
        message = refused(*command(run_folder, volume, tmp_path / 'out', scratch, *overwrite))
        assert 'something else' in message and f'{tmp_path}/{name}' in message
    assert tree(tmp_path) == before


# --- Reading that fails


def test_blocks_that_cannot_be_read_are_named_and_done_later(
    tmp_path: Path,
    volume: Path,
    run_folder: Path,
    refused: Callable[..., str],
    run_command: Callable[..., tuple[int, str]],
    calls: Calls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = command(run_folder, volume, tmp_path / 'out', '--dtype=float32')
    chunk = volume / '0' / 'c' / '1' / '0' / '2'
    kept = chunk.read_bytes()
    damaged: list[Path] = []

    def begun(passes: Passes, name: str, *args: Any) -> None:
        if name == 'predict' and not damaged:
            damaged.append(chunk)
            chunk.write_bytes(b'damaged')
        run_pass(passes, name, *args)

    monkeypatch.setattr(predict, 'run_pass', begun)
    # Nothing is known any more of what was read for the grey values.
    monkeypatch.setattr(chunked, '_CACHE_BYTES', 0)
    monkeypatch.setattr(chunked, 'context', functools.cache(chunked.context.__wrapped__))
    message = refused(*start)
    named = {tuple(map(int, found)) for found in re.findall(r'\((\d+), (\d+), (\d+)\) \(', message)}
    assert 'Could not predict block' in message and 'after 3 tries' in message
    assert (0, 0, 2) in named and (0, 1, 0) not in named and str(volume) in message
    assert set(calls['predict']) == {(0, i, j) for i in range(2) for j in range(3)}
    assert all(
        calls['predict'].count(block) == (3 if block in named else 1) for block in calls['predict']
    )
    assert not calls['attend'] and not (tmp_path / 'out').exists()
    # The same command does only those.
    chunk.write_bytes(kept)
    calls['predict'].clear()
    status, output = run_command(*start)
    assert status == 0, output
    assert sorted(calls['predict']) == sorted(named)
    status, output = run_command(
        *command(run_folder, volume, tmp_path / 'other', '--dtype=float32')
    )
    assert status == 0, output
    for name in ('refined.tif', 'segments.tif'):
        assert (tmp_path / 'out' / name).read_bytes() == (tmp_path / 'other' / name).read_bytes()


def test_sections_that_cannot_be_measured_are_named_and_done_later(
    tmp_path: Path,
    volume: Path,
    run_folder: Path,
    refused: Callable[..., str],
    run_command: Callable[..., tuple[int, str]],
    calls: Calls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = functools.partialmethod(Options.__init__, block=(1, 1))
    monkeypatch.setattr(Options, '__init__', one)
    start = command(run_folder, volume, tmp_path / 'out')
    chunk = volume / '0' / 'c' / '1' / '0' / '2'
    kept = chunk.read_bytes()
    chunk.write_bytes(b'damaged')
    message = refused(*start)
    assert 'Could not measure block (1, 0, 0) (Section 1: Cannot read' in message
    assert str(volume) in message and 'after 3 tries' in message
    assert sorted(calls['measure']) == [(0, 0, 0), *[(1, 0, 0)] * 3, (2, 0, 0)]
    assert not calls['predict'] and not (tmp_path / 'out').exists()
    chunk.write_bytes(kept)
    calls['measure'].clear()
    status, output = run_command(*start)
    assert status == 0, output
    assert calls['measure'] == [(1, 0, 0)]


# --- Unfinished work


class Interrupted:
    """Interrupts a pass after so many blocks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, blocks: int) -> None:
        self.left = blocks
        real = getattr(Passes, name)

        def stopped(passes: Passes, index: tuple[int, int, int]) -> None:
            if self.left == 0:
                monkeypatch.setattr(Passes, name, real)
                raise KeyboardInterrupt
            self.left -= 1
            real(passes, index)

        monkeypatch.setattr(Passes, name, stopped)


@pytest.mark.parametrize('name', ['predict', 'attend', 'finish'])
def test_an_interrupted_job_goes_on(
    tmp_path: Path,
    whole: dict[str, np.ndarray],
    calls: Calls,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    Interrupted(monkeypatch, name, 4)
    with pytest.raises(KeyboardInterrupt):
        predicted(tmp_path, tiny(), image(SHAPE))
    assert {path.name for path in tmp_path.iterdir()} == {'stack.tif', '.out.unfinished'}
    found = predicted(tmp_path, tiny())
    assert calls.pop('measure') == [(0, 0, 0)]
    for blocks in calls.values():
        assert len(blocks) == len(set(blocks)) == 6
    for key, expected in whole.items():
        np.testing.assert_array_equal(found[key], expected)
    assert {path.name for path in tmp_path.iterdir()} == {'stack.tif', 'out'}


def test_unfinished_work_is_of_one_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, np.ndarray]
) -> None:
    Interrupted(monkeypatch, 'predict', 2)
    with pytest.raises(KeyboardInterrupt):
        predicted(tmp_path, tiny(), image(SHAPE))
    with pytest.raises(InputError, match='other box, dtype that was not finished'):
        predicted(tmp_path, tiny(), box='0:1,0:9,0:9', dtype='uint8', overwrite=False)
    later = dataclasses.replace(tiny(), step=8)
    with pytest.raises(InputError, match='other step that'):
        predicted(tmp_path, later, overwrite=False)
    found = predicted(tmp_path, later, names=['membrane'])
    np.testing.assert_array_equal(found['membrane'], whole['membrane'])


class Terminal:
    """Keeps what a terminal would show."""

    def __init__(self) -> None:
        self.text = ''

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize('terminal', [True, False])
def test_progress_of_a_job_that_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
) -> None:
    Interrupted(monkeypatch, 'predict', 4)
    with pytest.raises(KeyboardInterrupt):
        predicted(tmp_path, tiny(), image(SHAPE), names=['membrane'])
    capsys.readouterr()
    shown = Terminal()
    if terminal:
        monkeypatch.setattr('sys.stderr', shown)
    predicted(tmp_path, tiny(), names=['membrane'])
    text = shown.text if terminal else capsys.readouterr().err
    assert '| 6/6' in text and 'predict' in text
    before = text[: text.index('finish')]  # a pass that does all six
    assert ('| 4/6' in before) == terminal and '| 3/6' not in before
    assert ('\r' in text) == terminal
