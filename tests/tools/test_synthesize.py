"""The synthesize command: the same voxels in every format, whole or not at all."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from absl import flags
from commands import environment, run_on_small_disk
from ml_collections import config_flags
from PIL import Image

from taclnet_jax.config import run_settings
from taclnet_jax.config.shipped import config_path
from taclnet_jax.data import load_volume
from taclnet_jax.data.synthetic import SyntheticTissue, synthetic_volume
from taclnet_jax.errors import InputError
from taclnet_jax.tools.synthesize import FORMATS, synthesize, write_cremi

SHAPE = (4, 90, 70)
OWN = [name for name in FORMATS if name not in ('cremi', 'isbi12', 'isbi13')]
DATASETS = ('volumes/raw', 'volumes/labels/neuron_ids')


def png(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(file)) for file in sorted(folder.iterdir())])


def zarr(folder: Path) -> np.ndarray:
    group = pytest.importorskip('zarr').open_group(str(folder), mode='r')
    return group['0'][:]


def tensorstore(driver: str, inside: str = '') -> Callable[[Path], np.ndarray]:
    def read(folder: Path) -> np.ndarray:
        kvstore = {'driver': 'file', 'path': f'{folder}/{inside}'}
        library = pytest.importorskip('tensorstore')
        array = library.open({'driver': driver, 'kvstore': kvstore}).result().read().result()
        return array.squeeze().T  # x, y, z(, channel)

    return read


# (image, labels, reader)
READERS: dict[str, tuple[str, str, Callable[[Path], np.ndarray]]] = {
    'isbi12': ('isbi12/train-volume.tif', 'isbi12/train-labels.tif', tifffile.imread),
    'isbi13': ('snemi3d/train-input.tif', 'snemi3d/train-labels.tif', tifffile.imread),
    'tiff': ('image.tif', 'labels.tif', tifffile.imread),
    'png': ('image', 'labels', png),
    'zarr2': ('image.zarr', 'labels.zarr', zarr),
    'zarr3': ('image.zarr', 'labels.zarr', zarr),
    'n5': ('image.n5', 'labels.n5', tensorstore('n5', 's0/')),
    'precomputed': (
        'image.precomputed',
        'labels.precomputed',
        tensorstore('neuroglancer_precomputed'),
    ),
}


def test_all_formats_are_tested() -> None:
    assert {*READERS, 'cremi', 'hdf5'} == set(FORMATS)


@pytest.mark.parametrize('format', READERS)
def test_the_voxels_are_those_of_the_synthetic_volume(format: str, tmp_path: Path) -> None:
    nm = (30, 8, 8)
    written = synthesize(format, tmp_path, shape=SHAPE, seed=3, resolution_nm=nm)
    volume = synthetic_volume(3, SHAPE, nm)
    labels = volume.ids if format != 'isbi12' else np.where(volume.membrane, 0, 255)
    *names, read = READERS[format]
    assert written.paths == tuple(tmp_path / name for name in names)
    for name, expected in zip(names, (volume.image, labels), strict=True):
        found = read(tmp_path / name)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.uint8 if expected is volume.image else found.dtype.kind == 'u'


def check_hdf5(path: Path, seed: int, shape: tuple, nm: tuple, padding: tuple = (0, 0, 0)) -> None:
    volume = synthetic_volume(seed, tuple(np.add(shape, 2 * np.array(padding))), nm)
    inner = tuple(slice(p, p + n) for p, n in zip(padding, shape, strict=True))
    with h5py.File(path) as file:
        raw, ids = (file[name] for name in DATASETS)
        assert file.attrs['synthetic']
        assert (raw.dtype, ids.dtype) == (np.uint8, np.uint64)
        assert raw.compression == ids.compression == 'gzip'
        np.testing.assert_array_equal(raw[:], volume.image)
        np.testing.assert_array_equal(ids[:], volume.ids[inner])
        for dataset in (raw, ids):
            np.testing.assert_array_equal(dataset.attrs['resolution'], nm)
        assert 'offset' not in raw.attrs
        if any(padding):
            np.testing.assert_array_equal(ids.attrs['offset'], np.multiply(padding, nm))
        else:
            assert 'offset' not in ids.attrs


def test_hdf5(tmp_path: Path) -> None:
    written = synthesize('hdf5', tmp_path, shape=SHAPE, seed=2)
    assert written.paths == (tmp_path / 'volume.h5',)
    check_hdf5(tmp_path / 'volume.h5', 2, SHAPE, (40, 4, 4))


def test_cremi_has_another_seed_a_sample(tmp_path: Path) -> None:
    synthesize('cremi', tmp_path, shape=SHAPE, seed=5)
    for index, sample in enumerate('ABC'):
        path = tmp_path / 'cremi' / f'sample_{sample}_20160501.hdf'
        check_hdf5(path, 5 + index, SHAPE, (40, 4, 4))


def test_padded_cremi_goes_on_around_the_labels(tmp_path: Path) -> None:
    synthesize('cremi', tmp_path, shape=SHAPE, seed=5, samples=('C',), padding=(1, 20, 9))
    path = tmp_path / 'cremi' / 'sample_C_padded_20160501.hdf'
    assert os.listdir(path.parent) == [path.name]
    check_hdf5(path, 7, SHAPE, (40, 4, 4), (1, 20, 9))


@pytest.mark.parametrize('format', FORMATS)
def test_the_command_reads_what_was_written(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (5, 80, 200)
    monkeypatch.chdir(tmp_path)
    command = synthesize(format, "it's here", shape=shape).command
    python, *words = shlex.split(command)
    assert (python, words[:2]) == ('python', ['-m', 'taclnet_jax.main'])
    values = flags.FlagValues()
    config_flags.DEFINE_config_file('config', flag_values=values)
    flags.DEFINE_string('workdir', None, '', flag_values=values)
    _, name = words[2].split('=')
    asked = ['main', f'--config={config_path(name)}', *words[3:]]
    monkeypatch.setattr(sys, 'argv', asked)  # ml_collections looks there, too
    values(asked)
    config = values.config
    config.prepared_dir = str(tmp_path / 'prepared')
    settings = run_settings(config)
    assert (settings.sampling.crop, settings.data.downsample) == ((80, 156), 1)

    volume = load_volume(settings.data)
    nm = {'isbi12': (50, 4, 4), 'isbi13': (30, 6, 6)}.get(format, (40, 4, 4))
    expected = synthetic_volume(0, shape, nm)
    assert volume.resolution_nm == nm
    for z in range(shape[0]):
        np.testing.assert_array_equal(volume.image[z], expected.image[z])
        np.testing.assert_array_equal(volume.membrane[z], expected.membrane[z])
        if format != 'isbi12':
            np.testing.assert_array_equal(volume.ids[z], expected.ids[z])
    assert volume.shape[0] == shape[0] * (3 if format == 'cremi' else 1)


@pytest.mark.parametrize('format', ['cremi', 'hdf5', 'zarr3'])
def test_each_section_is_made_once(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    section = SyntheticTissue.section
    monkeypatch.setattr(SyntheticTissue, 'section', lambda t, z: made.append(z) or section(t, z))
    synthesize(format, tmp_path, shape=(3, 40, 40))
    assert made == list(range(3)) * (3 if format == 'cremi' else 1)


@pytest.mark.parametrize('format', ['hdf5', 'n5'])
def test_memory_does_not_grow_with_the_number_of_sections(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def section(tissue: SyntheticTissue, z: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full((200, 200), z, np.uint8), np.full((200, 200), z)

    def peak(sections: int) -> int:
        tracemalloc.reset_peak()
        synthesize(format, tmp_path / str(sections), shape=(sections, 200, 200))
        return tracemalloc.get_traced_memory()[1]

    monkeypatch.setattr(SyntheticTissue, 'section', section)
    synthesize(format, tmp_path / 'first', shape=(1, 200, 200))  # imports
    tracemalloc.start()
    try:
        assert peak(60) < peak(20) + 5 * 200 * 200 * 3  # 20: a slab of 16 is written at once
    finally:
        tracemalloc.stop()


def test_labels_that_end_before_the_image(tmp_path: Path) -> None:
    image = np.arange(5 * 6 * 7, dtype=np.uint8).reshape(5, 6, 7)
    ids = np.arange(2 * 3 * 2).reshape(2, 3, 2) + 2**40
    write_cremi(tmp_path / 'a.hdf', image, ids, resolution_nm=(10, 2, 1), padding=(1, 0, 4))
    with h5py.File(tmp_path / 'a.hdf') as file:
        np.testing.assert_array_equal(file[DATASETS[0]][:], image)
        np.testing.assert_array_equal(file[DATASETS[1]][:], ids)
        np.testing.assert_array_equal(file[DATASETS[1]].attrs['offset'], (10, 0, 4))


@pytest.mark.parametrize('padding', [(1, 0, 0), (0, 0, -1), (0, 5, 0)])
def test_labels_that_do_not_fit(padding: tuple[int, int, int], tmp_path: Path) -> None:
    image, ids = np.zeros((3, 6, 6), np.uint8), np.zeros((3, 4, 4), np.uint8)
    with pytest.raises(InputError, match=r'\(3, 4, 4\)'):
        write_cremi(tmp_path / 'a.hdf', image, ids, padding=padding)
    assert not os.listdir(tmp_path)


def test_a_failure_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    class Failing:
        shape, dtype = (3, 6, 6), np.dtype(np.uint8)

        def __getitem__(self, key: int) -> np.ndarray:
            if key == 2:
                raise RuntimeError('mine')
            return np.zeros((6, 6), np.uint8)

    (tmp_path / 'a.hdf').write_text('old')
    with pytest.raises(RuntimeError, match='mine'):
        write_cremi(tmp_path / 'a.hdf', Failing(), np.zeros((3, 6, 6), np.uint8))
    assert os.listdir(tmp_path) == ['a.hdf'] and (tmp_path / 'a.hdf').read_text() == 'old'


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'format': 'zarr'}, "zarr2, zarr3, n5, precomputed; found 'zarr'"),
        ({'shape': (3, 40)}, r'\(3, 40\)'),
        ({'shape': (0, 40, 40)}, r'\(0, 40, 40\)'),
        ({'seed': -1}, 'found -1'),
        ({'output': 'gs://bucket/tissue'}, 'found the address gs://bucket/tissue'),
        ({'resolution_nm': (40, 4, 0)}, r'\(40, 4, 0\)'),
        ({'resolution_nm': (40, 4, float('nan'))}, 'nan'),
        ({'padding': (-1, 0, 0)}, r'\(-1, 0, 0\)'),
        ({'padding': (1, 1)}, r'\(1, 1\)'),
        ({'samples': ('A', 'D')}, 'A, D'),
        ({'samples': ('A', 'A')}, 'each once'),
        ({'samples': ()}, 'none'),
        ({'format': 'tiff', 'padding': (1, 1, 1)}, 'not of tiff'),
        ({'format': 'tiff', 'samples': ('A',)}, 'not of tiff'),
        ({'shape': (1, 10**15, 10**15)}, 'memory'),
        ({'format': 'png', 'shape': (1, 99, 99), 'resolution_nm': (40, 1000, 1000)}, '65535'),
    ],
)
def test_bad_input(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    settings = {'format': 'cremi', 'output': tmp_path / 'out', 'shape': (2, 20, 20)} | changes
    with pytest.raises(InputError, match=words):
        synthesize(**settings)
    assert not os.listdir(tmp_path)


def test_what_is_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('mine')
    (tmp_path / 'full' / 'isbi12').mkdir(parents=True)
    (tmp_path / 'full' / 'isbi12' / 'train-volume.tif').write_text('mine')
    before = sorted(tmp_path.rglob('*'))
    for output, format in (
        ('file', 'tiff'),
        ('file/below', 'png'),
        ('full', 'tiff'),
        ('full', 'isbi12'),
    ):
        with pytest.raises(InputError, match='file'):
            synthesize(format, tmp_path / output, shape=(1, 20, 20))
    assert sorted(tmp_path.rglob('*')) == before
    # Another data set beside it, and an empty folder, are no obstacles.
    (tmp_path / 'full' / 'snemi3d').mkdir()
    synthesize('isbi13', tmp_path / 'full', shape=(1, 20, 20))
    assert len(os.listdir(tmp_path / 'full' / 'snemi3d')) == 2


MODULE = 'taclnet_jax.tools.synthesize'


def command(*args: str) -> list[str]:
    return [sys.executable, '-m', MODULE, *args]


def test_help_names_formats_and_flags(run_command: Callable[..., tuple[int, str]]) -> None:
    status, output = run_command('--help', module=MODULE)
    assert status == 0
    for word in (*FORMATS, '--format', '--output', '--shape', '--seed', '--padding', '24,256,256'):
        assert word in output


def test_the_command(
    tmp_path: Path, run_command: Callable[..., tuple[int, str]], refused: Callable[..., str]
) -> None:
    out = tmp_path / 'out'
    args = ['--format=tiff', f'--output={out}', '--shape=2,40,40', '--resolution=30,8,8']
    status, output = run_command(*args, module=MODULE)
    assert status == 0
    assert str(out / 'image.tif') in output and '--config=custom' in output
    expected = synthetic_volume(0, (2, 40, 40), (30, 8, 8)).image
    np.testing.assert_array_equal(tifffile.imread(out / 'image.tif'), expected)
    message = refused(*args, module=MODULE)
    assert message.startswith(f'taclnet: error: Expected {out} not to exist yet')


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--format=tiff'], '--output'),
        (['--output=x'], '--format'),
        (['--format=tiff', '--output=x', '--shape=4,a,4'], '4,a,4'),
        (['--format=zip', '--output=x'], 'precomputed'),
    ],
)
def test_flags(args: list[str], words: str, refused: Callable[..., str]) -> None:
    assert words in refused(*args, module=MODULE)
    assert not Path('x').exists()


@pytest.mark.slow
@pytest.mark.parametrize(('format', 'number'), [('cremi', signal.SIGTERM), ('n5', signal.SIGINT)])
def test_an_interrupted_command_leaves_nothing(
    format: str, number: signal.Signals, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        command(f'--format={format}', f'--output={tmp_path}/deep/out', '--shape=9999,128,128'),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not any(tmp_path.glob('.*/*')) and time.monotonic() < deadline:
            if format != 'cremi' and any(tmp_path.glob('.*')):
                break  # its files have no names yet
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number and 'Traceback' not in output, output
    assert not os.listdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('format', ['cremi', 'tiff'])
def test_a_full_disk(format: str, tmp_path: Path) -> None:
    args = command(f'--format={format}', f'--output={tmp_path}/out', '--shape=20,200,200')
    listing = f'"$@"; status=$?; ls -A {tmp_path}; exit $status'
    listed = ['sh', '-c', listing, 'sh', *args]
    done = run_on_small_disk(tmp_path, listed, environment(), timeout=120)
    assert done.returncode == 2, done.stderr
    assert 'No space left on device' in done.stderr
    assert 'Traceback' not in done.stderr and 'Exception ignored' not in done.stderr
    assert done.stdout == ''  # nothing is left
