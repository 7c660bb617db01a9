"""Work that goes on does so with what it began with, and with all that was done."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from made_up import image, predicted, tiny

from taclnet_jax import errors
from taclnet_jax.errors import InputError
from taclnet_jax.inference import Cut
from taclnet_jax.prediction import predict
from taclnet_jax.prediction.passes import Passes
from taclnet_jax.prediction.predict import Options, describe, predict_volume
from taclnet_jax.volumes import open_array, read_whole, write_array

STACK = image((3, 64, 64))
MASK = np.ones(STACK.shape, np.uint8)
MASK[:, :32, 32:] = 0


@pytest.fixture(scope='module')
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with work that was stopped before its last block."""
    folder = tmp_path_factory.mktemp('begun')
    write_array(folder / 'mask.tif', MASK)

    def stopped(passes: Passes, index: tuple[int, int, int]) -> None:
        if index == (0, 1, 1):
            raise KeyboardInterrupt
        real(passes, index)

    with pytest.MonkeyPatch.context() as patched:
        real = Passes.finish
        patched.setattr(Passes, 'finish', stopped)
        with pytest.raises(KeyboardInterrupt):
            go_on(folder, STACK)
    return folder


def go_on(folder: Path, stack: np.ndarray | None = None, **changes: Any) -> dict[str, np.ndarray]:
    used = dataclasses.replace(tiny(), **changes)
    return predicted(folder, used, stack, mask=str(folder / 'mask.tif'), overwrite=False)


def test_another_volume_mask_or_network_is_refused(begun: Path) -> None:
    other = STACK.copy()
    other[1] = other[1, ::-1]  # of the same grey values
    write_array(begun / 'stack.tif', other)
    with pytest.raises(InputError, match=r'stack.tif has changed .* in section\(s\) 1\. To begin'):
        go_on(begun)
    write_array(begun / 'stack.tif', STACK)
    write_array(begun / 'mask.tif', MASK[:, ::-1])
    with pytest.raises(InputError, match='mask.tif has changed'):
        go_on(begun)
    write_array(begun / 'mask.tif', MASK)
    with pytest.raises(InputError, match='other parameters'):
        go_on(begun, variables=tiny(scale=3).variables)
    with pytest.raises(InputError, match='other parameters'):
        go_on(begun, chosen=dict.fromkeys(tiny().chosen, Cut(0.4, 0.2)))


LOST = (
    'active.npz',
    'histograms/c/1/0',
    'prob/c/0/1/0/1',
    'attended/c/1/0/0',
    'refined/c/0/0/0',
    'segments/c/2/1/0',
    'borders/0_0_0.npz',
    'done/predict/done/zarr.json',
)


def test_lost_and_damaged_parts_are_named(begun: Path) -> None:
    for name in LOST:
        path = begun / '.out.unfinished' / name
        kept = path.read_bytes()
        path.unlink()
        with pytest.raises(InputError, match=f'{path} was lost|{path.parent} was lost'):
            go_on(begun)
        path.write_bytes(kept)
    for name in ('active.npz', 'done/predict/done/zarr.json', 'prob/zarr.json', 'prob/c/0/0/1/1'):
        path = begun / '.out.unfinished' / name
        kept = path.read_bytes()
        middle = len(kept) // 2
        flipped = kept[:middle] + bytes([kept[middle] ^ 255]) + kept[middle + 1 :]
        for damaged in (kept[:middle], flipped):
            path.write_bytes(damaged)
            with pytest.raises(InputError, match='was lost or damaged'):
                go_on(begun)
        path.write_bytes(kept)


def test_files_that_were_written_again_go_on(
    begun: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is damaged of the results is found at the end alone."""
    write_array(begun / 'stack.tif', STACK)
    for name in ('borders/0_0_0.npz', 'segments/c/0/0/0'):
        path = begun / '.out.unfinished' / name
        kept = path.read_bytes()
        path.write_bytes(kept[:-9] + b'damage' + kept[-3:])
        with pytest.raises(InputError, match='was lost or damaged'):
            go_on(begun)
        path.write_bytes(kept)
    # Whoever puts something where the output will be keeps it.
    numbering = predict.Numbering

    def meanwhile(*args: Any) -> Any:
        (begun / 'out').mkdir(exist_ok=True)
        (begun / 'out' / 'mine.txt').write_text('mine')
        return numbering(*args)

    with monkeypatch.context() as patched:
        patched.setattr(predict, 'Numbering', meanwhile)
        with pytest.raises(InputError, match='something else .mine.txt'):
            go_on(begun)
    assert [path.name for path in (begun / 'out').iterdir()] == ['mine.txt']
    shutil.rmtree(begun / 'out')
    monkeypatch.setattr(errors, '_told', set())
    (begun / '.out.0123abcd.partial').mkdir()  # of a command that was killed while it wrote
    (begun / '.out.v2.0123abcd.partial').mkdir()
    found = go_on(begun)
    assert {path.name for path in begun.iterdir()} == {
        *('out', 'stack.tif', 'mask.tif', '.out.v2.0123abcd.partial')
    }
    assert 'stack.tif was written since this prediction began' in caplog.text
    # Killed when all was written, and its work not yet removed.
    (begun / '.out.unfinished.done').mkdir()
    for name, expected in go_on(begun).items():
        np.testing.assert_array_equal(found[name], expected)
    assert not (begun / '.out.unfinished.done').exists()
    with pytest.raises(InputError, match='Choose another --output, or replace it'):
        go_on(begun)
    shutil.rmtree(begun / 'out')
    for name, expected in go_on(begun).items():
        np.testing.assert_array_equal(found[name], expected)


def test_places_that_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_array(tmp_path / 'stack.tif', STACK)
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    for output in ('.', '..', '/dev/shm' if os.path.ismount('/dev/shm') else '/'):
        with pytest.raises(InputError, match='replaced as a whole'):
            predict_volume(tiny(), str(tmp_path / 'stack.tif'), output, Options(names=['membrane']))
    with pytest.raises(InputError, match='too long'):
        predict_volume(tiny(), str(tmp_path / 'stack.tif'), 'z' * 240, Options(names=['membrane']))
    for output in ('a\0', 'a\\b', 'a\udcff', 'S3:/bucket/folder', 'file:'):
        with pytest.raises(InputError, match='as a path in UTF-8 without .*, or as an address'):
            predict_volume(tiny(), str(tmp_path / 'stack.tif'), output, Options(names=['membrane']))
    assert not list((tmp_path / 'here').iterdir())


def test_what_is_read_or_somebody_elses_is_not_replaced(tmp_path: Path) -> None:
    predicted(tmp_path, tiny(), STACK, names=['membrane'])
    inside = str(tmp_path / 'out' / 'membrane.tif')
    with pytest.raises(InputError, match='apart from --mask, found'):
        predicted(tmp_path, tiny(), names=['membrane'], mask=inside)
    shutil.rmtree(tmp_path / 'out')
    (tmp_path / 'out' / 'prediction.json').mkdir(parents=True)
    with pytest.raises(InputError, match='something else .prediction.json'):
        predicted(tmp_path, tiny(), names=['membrane'])


def test_files_by_their_addresses_and_again_in_one_process(tmp_path: Path) -> None:
    other = image(STACK.shape, seed=5)
    options = Options(names=['membrane'], dtype='float32', overwrite=True)
    found = []
    for stack in (STACK, other, other):
        with (tmp_path / 'volume.h5').open('w+b') as content, h5py.File(content, 'w') as file:
            file['raw'] = stack
        address = f'file://{tmp_path}/volume.h5'
        assert describe(tiny(), address, options).input == f'{tmp_path}/volume.h5'
        files = predict_volume(tiny(), address, tmp_path / 'out', options)
        found.append(read_whole(open_array(files['membrane'])))
    assert not np.array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[1], found[2])


@pytest.mark.parametrize(('side', 'downsample'), [(0, 2), (1, 1)])
def test_sections_of_a_pixel(tmp_path: Path, side: int, downsample: int) -> None:
    stack = np.delete(STACK, np.s_[1:], axis=1 + side)
    write_array(tmp_path / 'a.zarr', stack, resolution_nm=(40, 0.1, 0.1))
    options = Options(names=['membrane'], resample=downsample == 1, force=downsample == 2)
    with pytest.raises(InputError, match=r'at least 2x2 pixels, found (1x|\dx1 )'):
        predict_volume(tiny(downsample=downsample), f'{tmp_path}/a.zarr', tmp_path / 'b', options)
    assert {path.name for path in tmp_path.iterdir()} == {'a.zarr'}
