"""Work that goes on does so with what it began with, and with all that was done."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import image, predicted, tiny

from taclnet_jax import errors
from taclnet_jax.errors import InputError
from taclnet_jax.inference import Cut
from taclnet_jax.prediction import predict
from taclnet_jax.prediction.passes import Passes
from taclnet_jax.prediction.predict import Options, predict_volume
from taclnet_jax.volumes import write_stack

STACK = image((3, 64, 64))
MASK = np.ones(STACK.shape, np.uint8)
MASK[:, :32, 32:] = 0


@pytest.fixture(scope='module')
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with work that was stopped before its last block."""
    folder = tmp_path_factory.mktemp('begun')
    write_stack(folder / 'mask.tif', MASK)

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
    other[1, :20] //= 2
    write_stack(begun / 'stack.tif', other)
    with pytest.raises(InputError, match=r'stack.tif has changed .* in section\(s\) 1\. To begin'):
        go_on(begun)
    write_stack(begun / 'stack.tif', STACK)
    write_stack(begun / 'mask.tif', MASK[:, ::-1])
    with pytest.raises(InputError, match='mask.tif has changed'):
        go_on(begun)
    write_stack(begun / 'mask.tif', MASK)
    with pytest.raises(InputError, match='other parameters'):
        go_on(begun, variables=tiny(scale=3).variables)
    with pytest.raises(InputError, match='other parameters'):
        go_on(begun, chosen=dict.fromkeys(tiny().chosen, Cut(0.4, 0.2)))


LOST = (
    'active.npy',
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
    for name in ('active.npy', 'done/predict/done/zarr.json'):
        path = begun / '.out.unfinished' / name
        kept = path.read_bytes()
        path.write_bytes(kept[: len(kept) // 2])
        with pytest.raises(InputError, match='was lost or damaged'):
            go_on(begun)
        path.write_bytes(kept)


def test_files_that_were_written_again_go_on(
    begun: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among them a damaged border, which is found at the end alone."""
    write_stack(begun / 'stack.tif', STACK)
    border = begun / '.out.unfinished' / 'borders' / '0_0_0.npz'
    kept = border.read_bytes()
    border.write_bytes(b'')
    with pytest.raises(InputError, match='0_0_0.npz was lost or damaged'):
        go_on(begun)
    border.write_bytes(kept)
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
    found = go_on(begun)
    assert 'stack.tif was written since this prediction began' in caplog.text
    shutil.rmtree(begun / 'out')
    for name, expected in go_on(begun).items():
        np.testing.assert_array_equal(found[name], expected)


def test_places_that_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stack(tmp_path / 'stack.tif', STACK)
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    for output in ('.', '..', '/dev/shm' if os.path.ismount('/dev/shm') else '/'):
        with pytest.raises(InputError, match='replaced as a whole'):
            predict_volume(tiny(), str(tmp_path / 'stack.tif'), output, Options(names=['membrane']))
    with pytest.raises(InputError, match='too long'):
        predict_volume(tiny(), str(tmp_path / 'stack.tif'), 'z' * 240, Options(names=['membrane']))
    assert not list((tmp_path / 'here').iterdir())
