"""Folds, windows near their borders, and the grid of crops."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from taclnet_jax.config.data import SamplingSettings
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import (
    balanced_weights,
    check_slices,
    fold_sections,
    grid_samples,
    labelled_samples,
    split_sections,
    targets_of,
    window_sections,
)
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import LazySections


def tissue(parts: Sequence[range], section: tuple[int, int] = (4, 4), **known: Any) -> Volume:
    """A volume of these parts that nobody reads."""
    shape = (max(part.stop for part in parts), *section)
    image = LazySections(shape, np.uint8, lambda z, *crop: np.zeros(section, np.uint8)[crop])
    return Volume('tissue', image, None, None, (1, 1, 1), parts=tuple(parts), **known)


@pytest.mark.parametrize(
    ('depth', 'fold', 'train', 'test'),
    [
        (30, 1, [range(10, 30)], range(10)),
        (30, 2, [range(10), range(20, 30)], range(10, 20)),
        (30, 3, [range(20)], range(20, 30)),
        (100, 1, [range(33, 100)], range(33)),
        (100, 2, [range(33), range(66, 100)], range(33, 66)),
        (100, 3, [range(66)], range(66, 100)),
        (3, 2, [range(1), range(2, 3)], range(1, 2)),
    ],
)
def test_folds_are_contiguous_thirds(depth: int, fold: int, train: list[range], test: range):
    assert fold_sections(tissue([range(depth)]), fold) == (tuple(train), (test,))


@pytest.mark.parametrize('depth', [29, 125, 8, 3])
def test_each_section_is_tested_in_one_fold_and_trained_on_in_the_others(depth: int):
    tested: list[int] = []
    for fold in (1, 2, 3):
        train, (test,) = fold_sections(tissue([range(depth)]), fold)
        assert sorted([*test, *(z for stretch in train for z in stretch)]) == list(range(depth))
        assert depth // 3 <= len(test) <= depth // 3 + 1
        tested += test
    assert tested == list(range(depth))


def test_fewer_sections_than_folds_are_refused():
    with pytest.raises(InputError, match='2 sections cannot be split into 3'):
        fold_sections(tissue([range(2)]), 1)


@pytest.mark.parametrize(
    ('target', 'slices', 'expected'),
    [
        (10, 1, [10]),
        (10, 3, [10, 10, 11]),
        (11, 3, [10, 11, 12]),
        (19, 3, [18, 19, 19]),
        (10, 5, [10, 10, 10, 11, 12]),
        (11, 5, [10, 10, 11, 12, 13]),
        (15, 5, [13, 14, 15, 16, 17]),
        (18, 5, [16, 17, 18, 19, 19]),
        (19, 5, [17, 18, 19, 19, 19]),
    ],
)
def test_windows_repeat_the_end_sections_of_their_run(
    target: int, slices: int, expected: list[int]
):
    assert window_sections(target, range(10, 20), slices) == expected


@pytest.mark.parametrize('slices', [1, 3, 5])
@pytest.mark.parametrize('fold', [1, 2, 3])
def test_no_window_sees_a_section_of_another_fold(fold: int, slices: int):
    train, test = fold_sections(tissue([range(31)]), fold)
    held_out = set(test[0])
    for stretches, allowed in ((train, set(range(31)) - held_out), (test, held_out)):
        for stretch in stretches:
            for target in stretch:
                sections = window_sections(target, stretch, slices)
                assert set(sections) <= allowed
                assert len(sections) == slices and sections[slices // 2] == target
                assert max(np.diff(sections), default=0) <= 1  # none is skipped


def test_numbers_of_validation_sections_that_can_be_are_said():
    volume = tissue([range(12)])
    with pytest.raises(InputError, match=r'found 1\. Here it can be 0, 3, 4, 5\.$'):
        split_sections(volume, SamplingSettings(validation_sections=1))
    for n in (3, 4, 5):
        split = split_sections(volume, SamplingSettings(validation_sections=n))
        assert split == ((range(8 - n),), (range(8 - n, 8),), (range(8, 12),))
    with pytest.raises(InputError, match=r'Here it can be 0\.$'):
        split_sections(tissue([range(8)]), SamplingSettings())


def test_fold_0_trains_on_all_sections():
    assert fold_sections(tissue([range(10), range(10, 31)]), 0) == ((range(10), range(10, 31)), ())


@pytest.mark.parametrize('slices', [0, 2, 4, -1])
def test_even_numbers_of_slices_are_refused(slices: int):
    with pytest.raises(InputError, match=f'odd number of slices .* found {slices}'):
        check_slices([range(10)], slices)


def test_a_run_shorter_than_the_window_is_refused():
    check_slices([range(10), range(20, 25)], 5)
    with pytest.raises(InputError, match='window of 5 .* only 4 .from section 20'):
        check_slices([range(10), range(20, 24)], 5)


def test_a_target_outside_the_run_is_a_mistake():
    with pytest.raises(ValueError, match='Section 20'):
        window_sections(20, range(10, 20), 3)


def test_the_grid_of_isbi12():
    samples = grid_samples(tissue([range(20)], (512, 512)), [range(20)], (156, 156))
    assert len(samples) == 20 * 4 * 4
    corners = [0, 118, 237, 356]  # 512 - 156 = 356 in three steps
    assert samples.section[16:32].tolist() == [1] * 16
    assert samples.y[16:32].tolist() == [y for y in corners for _ in corners]
    assert samples.x[16:32].tolist() == corners * 4
    assert (samples.stretch == (0, 20)).all()


@pytest.mark.parametrize(
    ('section', 'crop'),
    [
        ((7, 7), (7, 7)),
        ((13, 10), (5, 4)),
        ((21, 34), (20, 33)),
        ((11, 9), (1, 8)),
        ((1, 5), (1, 2)),
    ],
)
def test_the_fewest_crops_cover_each_section_of_the_runs(
    section: tuple[int, int], crop: tuple[int, int]
):
    stretches = [range(2, 4), range(6, 9)]
    samples = grid_samples(tissue(stretches, section), stretches, crop)
    covered = np.zeros((10, *section), int)
    for z, y, x, stretch in zip(
        samples.section, samples.y, samples.x, samples.stretch, strict=True
    ):
        assert 0 <= y <= section[0] - crop[0] and 0 <= x <= section[1] - crop[1]
        assert range(*stretch) in stretches and z in range(*stretch)
        covered[z, y : y + crop[0], x : x + crop[1]] += 1
    targets = [z for stretch in stretches for z in stretch]
    assert (covered[targets] > 0).all()
    assert covered.sum() == covered[targets].sum()
    rows, columns = (-(-s // c) for s, c in zip(section, crop, strict=True))
    assert len(samples) == len(targets) * rows * columns


def test_sample_ids_follow_section_row_column_every_time():
    samples = grid_samples(tissue([range(3), range(5, 8)], (5, 7)), [range(3), range(5, 8)], (3, 4))
    again = grid_samples(tissue([range(3), range(5, 8)], (5, 7)), [range(3), range(5, 8)], (3, 4))
    order = list(zip(samples.section, samples.y, samples.x, strict=True))
    assert order[:5] == [(0, 0, 0), (0, 0, 3), (0, 2, 0), (0, 2, 3), (1, 0, 0)]
    assert order == sorted(set(order))
    assert samples.stretch[11].tolist() == [0, 3] and samples.stretch[12].tolist() == [5, 8]
    for name in ('section', 'y', 'x', 'stretch'):
        np.testing.assert_array_equal(getattr(samples, name), getattr(again, name))


@pytest.mark.parametrize('crop', [(6, 3), (3, 8), (0, 3), (3, -1)])
def test_crops_that_do_not_fit_are_refused(crop: tuple[int, int]):
    with pytest.raises(InputError, match=f'5 x 7 pixels, found {crop[0]} x {crop[1]}'):
        grid_samples(tissue([range(3)], (5, 7)), [range(3)], crop)


def test_each_part_is_folded_on_its_own():
    train, test = fold_sections(tissue([range(6), range(6, 15)]), 2)
    assert train == (range(2), range(4, 6), range(6, 9), range(12, 15))
    assert test == (range(2, 4), range(9, 12))


@pytest.mark.parametrize('seed', range(20))
def test_thirds_have_as_many_labelled_sections_and_all_that_is_between(seed: int):
    rng = np.random.default_rng(seed)
    part = range(5, 5 + int(rng.integers(12, 60)))
    starts = rng.choice(part, rng.integers(3, 8), replace=False).tolist()
    boxes = [(z, min(z + int(rng.integers(1, 5)), part.stop), 0, 4, 0, 4) for z in starts]
    volume = tissue([range(5), part], boxes=tuple(boxes))
    only = dataclasses.replace(volume, parts=(part,))
    labelled = sorted({z for first, stop, *_ in boxes for z in range(first, stop)})
    tested: list[int] = []
    for fold in (1, 2, 3):
        train, (test,) = fold_sections(only, fold)
        stretches = sorted([*train, test], key=lambda stretch: stretch.start)
        assert [z for stretch in stretches for z in stretch] == [*part]
        found = [z for z in labelled if z in test]
        assert len(labelled) // 3 <= len(found) <= len(labelled) // 3 + 1
        tested += found
    assert tested == labelled


@pytest.mark.parametrize(('limit', 'expected'), [(0, 9), (4, 4), (1, 1), (20, 9)])
def test_targets_are_spread_evenly(limit: int, expected: int):
    stretches = [range(2, 5), range(10, 16)]
    targets = targets_of(stretches, limit)
    assert len(targets) == len(set(targets)) == expected
    assert all(z in stretch and stretch in stretches for z, stretch in targets)
    if limit == 1:
        assert targets == [(11, stretches[1])]


def test_a_limit_draws_crops_of_the_same_grid_from_all_over_it():
    whole = grid_samples(tissue([range(30)], (40, 50)), [range(30)], (10, 10))
    some = grid_samples(tissue([range(30)], (40, 50)), [range(30)], (10, 10), limit=120, seed=3)
    corners = lambda s: list(zip(s.section, s.y, s.x, strict=True))  # noqa: E731
    assert len(whole) == 600 and len(some) == 120
    assert set(corners(some)) < set(corners(whole)) and corners(some) == sorted(corners(some))
    assert len(set(some.section.tolist())) > 25
    other = grid_samples(tissue([range(30)], (40, 50)), [range(30)], (10, 10), limit=120, seed=4)
    assert corners(other) != corners(some)


def test_a_grid_of_billions_of_crops_is_drawn_from_in_little_memory():
    tracemalloc.start()
    samples = grid_samples(
        tissue([range(20000)], (100_000, 100_000)), [range(20000)], (100, 100), limit=1000
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(samples) == 1000 and peak < 50e6


def test_crops_without_a_label_are_left_out():
    image = np.zeros((3, 8, 8), np.uint8)
    ignore = np.zeros(image.shape, bool)
    ignore[1, :4] = True
    ignore[2, 0, 0] = True
    volume = Volume('v', image, ~ignore, None, (1, 1, 1), ignore)
    samples = labelled_samples(volume, grid_samples(volume, [range(3)], (4, 4)))
    assert len(samples) == 10
    assert samples.y[samples.section == 1].tolist() == [4, 4]
    everything = Volume('v', image, ignore, None, (1, 1, 1), np.ones_like(ignore))
    with pytest.raises(InputError, match='nothing to train on'):
        labelled_samples(everything, grid_samples(everything, [range(3)], (4, 4)))


def test_balanced_crops_are_drawn_by_their_share_of_membrane():
    membrane = np.zeros((10, 4, 4), bool)
    membrane[9] = True  # one crop of membrane, nine without
    volume = Volume('v', np.zeros(membrane.shape, np.uint8), membrane, None, (1, 1, 1))
    weights = balanced_weights(volume, grid_samples(volume, [range(10)], (4, 4)))
    np.testing.assert_allclose(weights, [*[0.5 / 9] * 9, 0.5])
