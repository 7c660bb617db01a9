"""Batches as a pure function of (seed, epoch, step), and their making ahead."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from taclnet_jax.data.augmentation import Augmentation
from taclnet_jax.data.pipeline import Batch, WindowLoader, read_window, section_windows
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import Samples, fold_sections, grid_samples, normalise
from taclnet_jax.errors import InputError
from taclnet_jax.symmetry import inverse, symmetry

SECTION = (23, 19)
ALL = Augmentation(symmetries=True, reverse_z=True, gain=0.1, offset=0.1, gamma=0.2)


@pytest.fixture(scope='module')
def volume() -> Volume:
    # Noise: each crop of it is found at one place only.
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (9, *SECTION)).astype(np.uint8)
    return Volume('noise', image, rng.random(image.shape) < 0.4, None, (50.0, 4.0, 4.0))


def make(volume: Volume, augment: Any = None, **changes: Any) -> WindowLoader:
    """Fold 2: it trains on sections 0-2 and 6-8, each with 3 x 3 crops: 54 samples."""
    options: dict[str, Any] = {'slices': 3, 'batch_size': 5, 'seed': 1, 'crop': (9, 9)} | changes
    samples = grid_samples(fold_sections(9, 2)[0], SECTION, options.pop('crop'))
    return WindowLoader(volume, samples, augment=augment or Augmentation(), **options)


def assert_same(a: Batch, b: Batch) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def window_by_hand(volume: Volume, samples: Samples, sample: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and membrane of a window of three, not augmented."""
    z = int(samples.section[sample])
    first, last = (0, 2) if z < 3 else (6, 8)
    sections = [max(z - 1, first), z, min(z + 1, last)]
    y, x = samples.y[sample], samples.x[sample]
    crop = np.s_[:, y : y + samples.crop[0], x : x + samples.crop[1]]
    assert volume.membrane is not None
    whole = np.stack([normalise(volume.image[s]) for s in sections])
    return whole[crop], volume.membrane[sections][crop]


@pytest.mark.parametrize('crop', [(9, 9), (8, 5), (23, 19), (1, 1)])
def test_without_augmentation_windows_are_crops_of_normalised_sections(
    volume: Volume, crop: tuple[int, int]
):
    loader = make(volume, crop=crop)
    batch = loader.batch(epoch=3, step=0)
    assert {name: (a.shape, a.dtype.name) for name, a in batch.items()} == {
        'image': ((5, 3, *crop), 'float32'),
        'membrane': ((5, 3, *crop), 'uint8'),
        'sample_id': ((5,), 'int32'),
        'symmetry': ((5,), 'int32'),
    }
    assert not batch['symmetry'].any()
    for i, sample in enumerate(batch['sample_id']):
        image, membrane = window_by_hand(volume, loader.samples, sample)
        np.testing.assert_allclose(batch['image'][i], image, atol=1e-5)
        np.testing.assert_array_equal(batch['membrane'][i], membrane)


@pytest.mark.parametrize('crop', [(9, 9), (8, 5)])
def test_symmetries_move_image_and_membrane_as_they_report(volume: Volume, crop: tuple[int, int]):
    loader = make(volume, Augmentation(symmetries=True), crop=crop)
    seen = set()
    for step in range(loader.steps_per_epoch):
        batch = loader.batch(0, step)
        for i, (sample, k) in enumerate(zip(batch['sample_id'], batch['symmetry'], strict=True)):
            image, membrane = window_by_hand(volume, loader.samples, sample)
            np.testing.assert_allclose(batch['image'][i], symmetry(image, k), atol=1e-5)
            back = symmetry(batch['membrane'][i], inverse(k))
            np.testing.assert_array_equal(back, membrane)
            seen.add(int(k))
    assert seen == set(range(8 if crop[0] == crop[1] else 4))


def test_reversing_z_keeps_the_target_in_the_middle(volume: Volume):
    loader = make(volume, Augmentation(reverse_z=True))
    reversals = 0
    for step in range(loader.steps_per_epoch):
        batch = loader.batch(0, step)
        for i, sample in enumerate(batch['sample_id']):
            image, membrane = window_by_hand(volume, loader.samples, sample)
            reverse = not np.array_equal(batch['membrane'][i], membrane)
            order = slice(None, None, -1) if reverse else slice(None)
            np.testing.assert_array_equal(batch['membrane'][i], membrane[order])
            np.testing.assert_allclose(batch['image'][i], image[order], atol=1e-5)
            reversals += reverse
    draws = loader.steps_per_epoch * loader.batch_size
    assert 0.3 * draws < reversals < 0.7 * draws


@pytest.mark.parametrize('crop', [(9, 9), (23, 8)])
def test_shifted_crops_stay_inside_and_near_their_place(volume: Volume, crop: tuple[int, int]):
    loader, samples = make(volume, crop=crop), make(volume, crop=crop).samples
    assert volume.membrane is not None
    moves = set()
    for step in range(loader.steps_per_epoch):
        batch = loader.batch(0, step, shift=True)
        for sample, membrane in zip(batch['sample_id'], batch['membrane'], strict=True):
            section = volume.membrane[samples.section[sample]]
            places = np.lib.stride_tricks.sliding_window_view(section, crop)
            (found,) = np.argwhere((places == membrane[1]).all(axis=(2, 3)))
            move = found - (samples.y[sample], samples.x[sample])
            assert (np.abs(move) <= np.array(crop) // 2).all()
            moves.add(tuple(move.tolist()))
    down, right = (len(set(steps)) for steps in zip(*moves, strict=True))
    assert right > 5 and (down > 5 or crop[0] == SECTION[0])


@pytest.mark.parametrize('shift', [False, True])
def test_batches_are_a_pure_function_of_seed_epoch_and_step(volume: Volume, shift: bool):
    first, second = make(volume, ALL), make(volume, ALL)
    asked = [(epoch, step) for epoch in range(3) for step in range(first.steps_per_epoch)]
    batches = {at: first.batch(*at, shift=shift) for at in asked}
    for at in reversed(asked):  # another loader, another order
        assert_same(second.batch(*at, shift=shift), batches[at])
    for epoch in (1, 2):
        assert (batches[epoch, 0]['sample_id'] != batches[0, 0]['sample_id']).any()
    other_seed = make(volume, ALL, seed=2).batch(0, 0, shift=shift)
    assert (other_seed['sample_id'] != batches[0, 0]['sample_id']).any()


def test_a_sample_is_augmented_anew_each_epoch(volume: Volume):
    loader = make(volume, ALL, batch_size=54)
    first, second = loader.batch(0, 0), loader.batch(1, 0)
    assert 0.02 < (first['symmetry'] == second['symmetry']).mean() < 0.3  # 1 in 8 by chance
    a, b = (batch['image'][np.argsort(batch['sample_id'])] for batch in (first, second))
    assert (np.abs(a - b).max(axis=(1, 2, 3)) > 1e-3).all()


def test_samples_do_not_depend_on_the_batches_they_are_put_into(volume: Volume):
    def epoch(batch_size: int) -> Batch:
        loader = make(volume, ALL, batch_size=batch_size)
        batches = [loader.batch(0, step, shift=True) for step in range(loader.steps_per_epoch)]
        return {name: np.concatenate([b[name] for b in batches])[:54] for name in batches[0]}

    assert_same(epoch(4), epoch(7))


@pytest.mark.parametrize('batch_size', [1, 5, 12, 54, 70])
def test_an_epoch_draws_all_samples_and_wraps_at_its_end(volume: Volume, batch_size: int):
    loader = make(volume, batch_size=batch_size)
    assert len(loader.samples) == 54
    steps = -(-54 // batch_size)
    assert loader.steps_per_epoch == steps
    drawn = np.concatenate([loader.batch(4, step)['sample_id'] for step in range(steps)])
    assert sorted(drawn[:54]) == list(range(54))
    assert drawn[:54].tolist() != list(range(54))
    np.testing.assert_array_equal(drawn[54:], drawn[: len(drawn) - 54])


def test_constant_sections_give_zeros(volume: Volume):
    image = volume.image.copy()
    image[1] = 77
    flat = Volume('flat', image, volume.membrane, None, volume.resolution_nm)
    loader = make(flat, batch_size=54)
    batch = loader.batch(0, 0)
    constant = loader.samples.section[batch['sample_id']] == 1
    assert constant.sum() == 9
    assert not batch['image'][constant, 1].any()
    assert batch['image'][~constant, 1].any(axis=(1, 2)).all()
    assert np.isfinite(make(flat, ALL).batch(0, 0)['image']).all()


@pytest.mark.parametrize('step', [-1, 11])
def test_steps_outside_the_epoch_do_not_exist(volume: Volume, step: int):
    with pytest.raises(IndexError, match=f'Step {step} of 11'):
        make(volume).batch(0, step)


def test_what_cannot_be_trained_on_is_refused(volume: Volume):
    unlabelled = Volume('bare', volume.image, None, None, volume.resolution_nm)
    with pytest.raises(InputError, match='bare has no membrane labels'):
        make(unlabelled)
    with pytest.raises(InputError, match='batches of 0'):
        make(volume, batch_size=0)
    with pytest.raises(InputError, match='found 0 samples'):
        WindowLoader(volume, grid_samples([], SECTION, (9, 9)), 3, 5, 0)
    with pytest.raises(InputError, match='window of 5 .* only 3 .from section 0'):
        make(volume, slices=5)
    with pytest.raises(InputError, match='odd number'):
        make(volume, slices=2)


def window_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith('windows')]


@pytest.mark.parametrize('first_step', [0, 5, 11])
@pytest.mark.parametrize('shift', [False, True])
def test_batches_made_ahead_are_the_same_in_the_same_order(
    volume: Volume, first_step: int, shift: bool
):
    loader = make(volume, ALL)
    with loader.epoch(2, first_step, shift=shift) as batches:
        made = list(batches)
    assert len(made) == 11 - first_step
    for step, batch in enumerate(made, first_step):
        assert_same(batch, make(volume, ALL).batch(2, step, shift=shift))
    assert batches.seconds_waited >= 0
    assert next(batches, None) is None and not window_threads()


class Failing(WindowLoader):
    """Cannot make step 3; remembers which steps it has made."""

    fails = True

    def batch(self, epoch: int, step: int, *, shift: bool = False) -> Batch:
        self.made = {*getattr(self, 'made', ()), step}
        if self.fails and step == 3:
            raise OSError('the disk is gone')
        return super().batch(epoch, step, shift=shift)


def failing(volume: Volume, fails: bool) -> Failing:
    samples = grid_samples([range(9)], SECTION, (9, 9))
    loader = Failing(volume, samples, 3, 2, 0)
    loader.fails = fails
    return loader


def test_an_error_comes_out_where_its_batch_would_have(volume: Volume):
    batches = failing(volume, fails=True).epoch(0)
    for _ in range(3):
        next(batches)
    with pytest.raises(OSError, match='the disk is gone'):
        next(batches)
    assert next(batches, None) is None and not window_threads()


def test_leaving_the_loop_early_stops_the_threads(volume: Volume):
    loader = failing(volume, fails=False)
    with pytest.raises(KeyError), loader.epoch(0) as batches:
        next(batches)
        next(batches)
        raise KeyError
    assert not window_threads()
    assert next(batches, None) is None
    assert loader.made <= set(range(6))  # two taken and four ahead
    batches.close()


@pytest.mark.parametrize('slices', [1, 3])
def test_whole_sections_come_with_their_windows(volume: Volume, slices: int):
    runs = [range(3), range(6, 9)]
    seen = list(section_windows(volume, runs, slices))
    assert [target for target, _ in seen] == [0, 1, 2, 6, 7, 8]
    for target, window in seen:
        run = runs[target // 6]
        around = [target] if slices == 1 else [target - 1, target, target + 1]
        expected = [normalise(volume.image[np.clip(z, run[0], run[-1])]) for z in around]
        assert window.shape == (slices, *SECTION) and window.dtype == np.float32
        np.testing.assert_array_equal(window, expected)
        np.testing.assert_array_equal(read_window(volume, target, run, slices), expected)


def test_whole_sections_need_a_run_as_long_as_the_window(volume: Volume):
    with pytest.raises(InputError, match='only 2'):
        next(section_windows(volume, [range(2)], 3))
    with pytest.raises(InputError, match='odd number'):
        next(section_windows(volume, [range(9)], 4))
