"""Batches as a pure function of (seed, epoch, step), and their making ahead."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import numpy as np
import pytest
from oracles import normalise
from scipy import ndimage

from taclnet_jax.config.data import AugmentSettings
from taclnet_jax.data.loader import WORKERS, Batch, WindowLoader
from taclnet_jax.data.normalisation import normalised
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import Samples, fold_sections, grid_samples, read_window
from taclnet_jax.errors import InputError
from taclnet_jax.symmetry import inverse, symmetry

SECTION = (23, 19)
GEOMETRY = AugmentSettings(
    symmetries=True,
    reverse_z=True,
    misaligned=1.0,
    misaligned_px=5,
    shift=True,
    elastic=1.0,
    elastic_px=3.0,
    elastic_spacing_px=12,
)
ALL = dataclasses.replace(
    GEOMETRY, gain=0.1, offset=0.1, gamma=0.2, dark=0.5, blur=0.5, noise=0.5, missing=0.5
)


@pytest.fixture(scope='module')
def volume() -> Volume:
    # Noise: each crop of it is found at one place only.
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (9, *SECTION)).astype(np.uint8)
    return Volume('noise', image, rng.random(image.shape) < 0.4, None, (50.0, 4.0, 4.0))


def make(volume: Volume, augment: Any = None, **changes: Any) -> WindowLoader:
    """Fold 2: it trains on sections 0-2 and 6-8, each with 3 x 3 crops: 54 samples."""
    options: dict[str, Any] = {'slices': 3, 'batch_size': 5, 'seed': 1, 'crop': (9, 9)} | changes
    samples = grid_samples(volume, fold_sections(volume, 2)[0], options.pop('crop'))
    return WindowLoader(volume, samples, augment=augment or AugmentSettings(), **options)


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
        'membrane': ((5, 3, *crop), 'float32'),
        'valid': ((5, 3, *crop), 'uint8'),
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
    loader = make(volume, AugmentSettings(symmetries=True), crop=crop)
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
    loader = make(volume, AugmentSettings(reverse_z=True))
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
    loader = make(volume, AugmentSettings(shift=True), crop=crop)
    samples = loader.samples
    assert volume.membrane is not None
    moves = set()
    for step in range(loader.steps_per_epoch):
        batch = loader.batch(0, step, displace=True)
        for sample, membrane in zip(batch['sample_id'], batch['membrane'], strict=True):
            section = volume.membrane[samples.section[sample]]
            places = np.lib.stride_tricks.sliding_window_view(section, crop)
            (found,) = np.argwhere((places == membrane[1]).all(axis=(2, 3)))
            move = found - (samples.y[sample], samples.x[sample])
            assert (np.abs(move) <= np.array(crop) // 2).all()
            moves.add(tuple(move.tolist()))
    down, right = (len(set(steps)) for steps in zip(*moves, strict=True))
    assert right > 5 and (down > 5 or crop[0] == SECTION[0])


@pytest.mark.parametrize('displace', [False, True])
def test_batches_are_a_pure_function_of_seed_epoch_and_step(volume: Volume, displace: bool):
    first, second = make(volume, ALL), make(volume, ALL)
    asked = [(epoch, step) for epoch in range(3) for step in range(first.steps_per_epoch)]
    batches = {at: first.batch(*at, displace=displace) for at in asked}
    for at in reversed(asked):  # another loader, another order
        assert_same(second.batch(*at, displace=displace), batches[at])
    for epoch in (1, 2):
        assert (batches[epoch, 0]['sample_id'] != batches[0, 0]['sample_id']).any()
    other_seed = make(volume, ALL, seed=2).batch(0, 0, displace=displace)
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
        batches = [loader.batch(0, step, displace=True) for step in range(loader.steps_per_epoch)]
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
        WindowLoader(volume, grid_samples(volume, [], (9, 9)), 3, 5, 0)
    with pytest.raises(InputError, match='window of 5 .* only 3 .from section 0'):
        make(volume, slices=5)
    with pytest.raises(InputError, match='odd number'):
        make(volume, slices=2)


def window_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith('windows')]


@pytest.mark.parametrize('first_step', [0, 5, 11])
@pytest.mark.parametrize('displace', [False, True])
def test_batches_made_ahead_are_the_same_in_the_same_order(
    volume: Volume, first_step: int, displace: bool
):
    loader = make(volume, ALL)
    with loader.epoch(2, first_step, displace=displace) as batches:
        made = list(batches)
    assert len(made) == 11 - first_step
    for step, batch in enumerate(made, first_step):
        assert_same(batch, make(volume, ALL).batch(2, step, displace=displace))
    assert batches.seconds_waited >= 0
    assert next(batches, None) is None and not window_threads()


class Failing(WindowLoader):
    """Cannot make step 3; remembers which steps it has made."""

    fails = True

    def batch(self, epoch: int, step: int, *, displace: bool = False) -> Batch:
        self.made = {*getattr(self, 'made', ()), step}
        if self.fails and step == 3:
            raise OSError('the disk is gone')
        return super().batch(epoch, step, displace=displace)


def failing(volume: Volume, fails: bool) -> Failing:
    samples = grid_samples(volume, [range(9)], (9, 9))
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
    assert loader.made <= set(range(2 + 2 * WORKERS))  # two taken and the others ahead
    batches.close()


@pytest.mark.parametrize('slices', [1, 3])
def test_windows_of_normalised_sections(volume: Volume, slices: int):
    sections, stretches = normalised(volume.image), [range(3), range(6, 9)]
    rows, columns = slice(3, 20), slice(0, 19)
    for target in (0, 1, 2, 6, 7, 8):
        stretch = stretches[target // 6]
        around = [target] if slices == 1 else [target - 1, target, target + 1]
        expected = [normalise(volume.image[np.clip(z, stretch[0], stretch[-1])]) for z in around]
        window = read_window(sections, target, stretch, slices, rows, columns)
        assert window.dtype == np.float32
        np.testing.assert_allclose(window, np.stack(expected)[:, rows, columns], atol=1e-5)


def test_a_constant_section_is_normalised_to_zeros():
    image = np.full((1, 9, 9), 200, np.uint8)
    assert not normalised(image)[0].any()


def test_huge_sections_are_normalised_by_a_sample_of_them():
    rng = np.random.default_rng(0)
    section = rng.normal(100, 20, (1, 2500, 2000)).astype(np.uint8)
    part = normalised(section)[0, slice(700, 1700), slice(500, 1500)]
    assert abs(part.mean()) < 0.02 and abs(part.std() - 1) < 0.02


def test_ignored_regions_follow_their_crops(volume: Volume):
    rng = np.random.default_rng(5)
    ignore = rng.random(volume.shape) < 0.3
    # Where the mask is the membrane, what is valid must be what is no membrane, however augmented.
    same = Volume('same', volume.image, ignore, None, (50.0, 4.0, 4.0), ignore)
    inside = dataclasses.replace(ALL, misaligned=0.0, elastic=0.0)
    batch = make(same, inside).batch(0, 1, displace=True)
    np.testing.assert_array_equal(batch['valid'], 1 - batch['membrane'])
    batch = make(same, ALL).batch(0, 1, displace=True)
    assert batch['valid'].any() and batch['membrane'][batch['valid'] == 1].max() < 2e-3
    assert make(volume).batch(0, 0)['valid'].all()


def test_beyond_the_border_nothing_is_valid(volume: Volume):
    # The same as a larger volume that is mirrored around the border, and ignored there.
    assert isinstance(volume.membrane, np.ndarray) and isinstance(volume.image, np.ndarray)
    image, membrane = (
        np.pad(x, [(0, 0), (20, 20), (20, 20)], 'reflect') for x in (volume.image, volume.membrane)
    )
    outside = np.pad(np.zeros(volume.shape, bool), [(0, 0), (20, 20), (20, 20)], constant_values=1)
    larger = Volume('larger', image, membrane, None, volume.resolution_nm, outside)
    augment = dataclasses.replace(GEOMETRY, shift=False)
    loader = make(volume, augment, batch_size=54)
    samples = dataclasses.replace(loader.samples, y=loader.samples.y + 20, x=loader.samples.x + 20)
    same = WindowLoader(larger, samples, 3, 54, 1, augment)
    batch, expected = (x.batch(0, 0, displace=True) for x in (loader, same))
    for name in ('membrane', 'valid', 'symmetry', 'sample_id'):
        np.testing.assert_array_equal(batch[name], expected[name])
    assert 0.6 < batch['valid'].mean() < 0.95


@pytest.mark.parametrize('crop', [(9, 9), (8, 5), (23, 19)])
def test_undisplaced_the_symmetry_alone_takes_the_target_back(
    volume: Volume, crop: tuple[int, int]
):
    loader = make(volume, GEOMETRY, crop=crop)
    for step in range(loader.steps_per_epoch):
        batch = loader.batch(0, step)
        for i, (sample, k) in enumerate(zip(batch['sample_id'], batch['symmetry'], strict=True)):
            image, membrane = window_by_hand(volume, loader.samples, sample)
            back = symmetry(batch['image'][i, 1], inverse(k))
            np.testing.assert_allclose(back, image[1], atol=1e-5)
            back = symmetry(batch['membrane'][i, 1], inverse(k))
            np.testing.assert_array_equal(back, membrane[1])
            assert batch['valid'][i, 1].all()


def test_misaligned_sections_come_from_displaced_places(volume: Volume):
    loader = make(volume, AugmentSettings(misaligned=1.0, misaligned_px=3), batch_size=54)
    batch = loader.batch(0, 0)
    moves = set()
    for i, sample in enumerate(batch['sample_id']):
        z = int(loader.samples.section[sample])
        stretch = (0, 2) if z < 3 else (6, 8)
        for j in (0, 2):
            neighbour = int(np.clip(z - 1 + j, *stretch))
            section = np.pad(normalise(volume.image[neighbour]), 3, 'reflect')
            places = np.lib.stride_tricks.sliding_window_view(section, (9, 9))
            errors = np.abs(places - batch['image'][i, j]).max(axis=(2, 3))
            y, x = np.unravel_index(errors.argmin(), errors.shape)
            assert errors[y, x] < 1e-5
            move = (y - 3 - loader.samples.y[sample], x - 3 - loader.samples.x[sample])
            assert np.abs(move).max() <= 3
            there = np.pad(np.ones(SECTION, bool), 3)[y : y + 9, x : x + 9]
            np.testing.assert_array_equal(batch['valid'][i, j], there)
            moves.add(move)
    assert len(moves) > 25


def test_labels_move_with_the_image(volume: Volume):
    rng = np.random.default_rng(8)
    membrane = ndimage.gaussian_filter(rng.normal(size=volume.shape), (0, 2, 2)) > 0
    image = np.where(membrane, 200, 50).astype(np.uint8)
    loader = make(Volume('same', image, membrane, None, (50.0, 4.0, 4.0)), GEOMETRY)
    unmixed = []
    for step in range(loader.steps_per_epoch):
        batch = loader.batch(1, step, displace=True)
        for i, sample in enumerate(batch['sample_id']):
            grey, label = batch['image'][i, 1], batch['membrane'][i, 1]
            # Of what is not flat, which counts as padding.
            low, high = np.unique(normalised(image)[int(loader.samples.section[sample])])
            # Linear interpolation mixes the two, in the label as in the image.
            at_low, at_high = np.abs(grey - low) < 1e-4, np.abs(grey - high) < 1e-4
            assert (label[at_low] < 1e-3).all() and (label[at_high] > 0.999).all()
            unmixed.append((at_low | at_high).mean())
    assert np.mean(unmixed) > 0.5


@pytest.mark.parametrize('displace', [False, True])
def test_probabilities_of_zero_change_nothing(volume: Volume, displace: bool):
    plain = make(volume, AugmentSettings(symmetries=True, gain=0.1), batch_size=54)
    augment = AugmentSettings(
        symmetries=True,
        gain=0.1,
        dark_strength=1.0,
        blur_px=9.0,
        noise_strength=9.0,
        misaligned_px=9,
        elastic_px=9.0,
        elastic_spacing_px=99,
    )
    strong = make(volume, augment, batch_size=54)
    assert_same(strong.batch(0, 0, displace=displace), plain.batch(0, 0, displace=displace))


@pytest.mark.parametrize('name', ['dark', 'blur', 'noise', 'missing', 'misaligned', 'elastic'])
def test_an_augmentation_leaves_the_draws_of_the_others_alone(volume: Volume, name: str):
    """Sections that are not changed by one more augmentation have the same bits as without it."""
    few = dataclasses.replace(ALL, **{name: 0.0})
    more = dataclasses.replace(ALL, **{name: 0.2})
    a, b = (make(volume, x, batch_size=54).batch(0, 0, displace=True) for x in (few, more))
    np.testing.assert_array_equal(a['symmetry'], b['symmetry'])
    same = (a['image'] == b['image']).all(axis=(2, 3))
    assert 0.2 < same.mean() < 1


def test_weights_draw_some_samples_more_often(volume: Volume):
    weights = np.zeros(54)
    weights[[3, 7]] = 0.5
    drawn = make(volume, weights=weights).batch(2, 0)['sample_id']
    assert set(drawn.tolist()) <= {3, 7}
