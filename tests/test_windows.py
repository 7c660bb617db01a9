"""Folds, windows near their borders, and the grid of crops."""

from __future__ import annotations

import numpy as np
import pytest

from taclnet_jax.data.windows import (
    check_slices,
    fold_sections,
    grid_samples,
    normalise,
    window_sections,
)
from taclnet_jax.errors import InputError


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
    assert fold_sections(depth, fold) == (tuple(train), (test,))


@pytest.mark.parametrize(('depth', 'folds'), [(29, 3), (125, 3), (8, 5), (7, 7), (2, 2)])
def test_each_section_is_tested_in_one_fold_and_trained_on_in_the_others(depth: int, folds: int):
    tested: list[int] = []
    for fold in range(1, folds + 1):
        train, (test,) = fold_sections(depth, fold, folds)
        assert sorted([*test, *(z for run in train for z in run)]) == list(range(depth))
        assert depth // folds <= len(test) <= depth // folds + 1
        tested += test
    assert tested == list(range(depth))


@pytest.mark.parametrize(('fold', 'folds'), [(0, 3), (4, 3), (1, 1), (-1, 3)])
def test_folds_that_do_not_exist_are_refused(fold: int, folds: int):
    with pytest.raises(InputError, match=f'found {fold} of {folds}'):
        fold_sections(30, fold, folds)


def test_fewer_sections_than_folds_are_refused():
    with pytest.raises(InputError, match='2 sections cannot be split into 3'):
        fold_sections(2, 1)


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
    train, test = fold_sections(31, fold)
    held_out = set(test[0])
    for runs, allowed in ((train, set(range(31)) - held_out), (test, held_out)):
        for run in runs:
            for target in run:
                sections = window_sections(target, run, slices)
                assert set(sections) <= allowed
                assert len(sections) == slices and sections[slices // 2] == target
                assert max(np.diff(sections), default=0) <= 1  # none is skipped


@pytest.mark.parametrize('slices', [0, 2, 4, -1])
def test_even_numbers_of_slices_are_refused(slices: int):
    with pytest.raises(InputError, match=f'odd number of slices .* found {slices}'):
        check_slices([range(10)], slices)


def test_a_run_shorter_than_the_window_is_refused():
    check_slices([range(10), range(20, 25)], 5)
    with pytest.raises(InputError, match='window of 5 .* only 4 .from section 20'):
        check_slices([range(10), range(20, 24)], 5)
    with pytest.raises(InputError, match='only 2'):
        window_sections(1, range(2), 3)


def test_a_target_outside_the_run_is_a_mistake():
    with pytest.raises(ValueError, match='Section 20'):
        window_sections(20, range(10, 20), 3)


def test_the_grid_of_isbi12():
    samples = grid_samples([range(20)], (512, 512), (156, 156))
    assert len(samples) == 20 * 4 * 4
    corners = [0, 118, 237, 356]  # 512 - 156 = 356 in three steps
    assert samples.section[16:32].tolist() == [1] * 16
    assert samples.y[16:32].tolist() == [y for y in corners for _ in corners]
    assert samples.x[16:32].tolist() == corners * 4
    assert (samples.run == (0, 20)).all()


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
    runs = [range(2, 4), range(6, 9)]
    samples = grid_samples(runs, section, crop)
    covered = np.zeros((10, *section), int)
    for z, y, x, run in zip(samples.section, samples.y, samples.x, samples.run, strict=True):
        assert 0 <= y <= section[0] - crop[0] and 0 <= x <= section[1] - crop[1]
        assert range(*run) in runs and z in range(*run)
        covered[z, y : y + crop[0], x : x + crop[1]] += 1
    targets = [z for run in runs for z in run]
    assert (covered[targets] > 0).all()
    assert covered.sum() == covered[targets].sum()
    rows, columns = (-(-s // c) for s, c in zip(section, crop, strict=True))
    assert len(samples) == len(targets) * rows * columns


def test_sample_ids_follow_section_row_column_every_time():
    samples = grid_samples([range(3), range(5, 8)], (5, 7), (3, 4))
    again = grid_samples([range(3), range(5, 8)], (5, 7), (3, 4))
    order = list(zip(samples.section, samples.y, samples.x, strict=True))
    assert order[:5] == [(0, 0, 0), (0, 0, 3), (0, 2, 0), (0, 2, 3), (1, 0, 0)]
    assert order == sorted(set(order))
    assert samples.run[11].tolist() == [0, 3] and samples.run[12].tolist() == [5, 8]
    for name in ('section', 'y', 'x', 'run'):
        np.testing.assert_array_equal(getattr(samples, name), getattr(again, name))


@pytest.mark.parametrize('crop', [(6, 3), (3, 8), (0, 3), (3, -1)])
def test_crops_that_do_not_fit_are_refused(crop: tuple[int, int]):
    with pytest.raises(InputError, match=f'5 x 7 pixels, found {crop[0]} x {crop[1]}'):
        grid_samples([range(3)], (5, 7), crop)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_sections_are_normalised(dtype: type):
    section = np.random.default_rng(0).integers(0, 200, (31, 23)).astype(dtype)
    result = normalise(section)
    assert result.dtype == np.float32 and result.shape == section.shape
    assert abs(result.mean(dtype=float)) < 1e-6 and abs(result.var(dtype=float) - 1) < 1e-6
    order = np.argsort(section, axis=None, kind='stable')
    assert (np.diff(result.reshape(-1)[order]) >= 0).all()
    np.testing.assert_allclose(normalise(np.array([[1, 3], [1, 3]], dtype)), [[-1, 1]] * 2)


@pytest.mark.parametrize('value', [0, 255, 0.1, 1e-3, 1e6])
def test_a_constant_section_becomes_zeros(value: float):
    np.testing.assert_array_equal(normalise(np.full((37, 41), value)), 0)
    assert not normalise(np.full((37, 41), value, np.float32)).any()
