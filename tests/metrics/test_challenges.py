"""V_rand, V_info, the CREMI score, clDice, false splits and merges against other computations."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.metrics
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from metric_cases import (
    MASKS,
    SEGMENTS,
    flawed_section,
    membrane_section,
    no_deadline,
    numbered_zeros,
)
from scipy import ndimage
from skimage.morphology import skeletonize
from sklearn.metrics.cluster import contingency_matrix

from taclnet_jax import metrics
from taclnet_jax.errors import InputError

# V_rand and V_info


def pairs_together(segments):
    return segments[:, None] == segments[None]


@no_deadline
@given(SEGMENTS)
def test_v_rand_counts_pairs_of_pixels(segments):
    true, predicted = segments
    foreground = true > 0
    if not foreground.any():
        return
    true, predicted = pairs_together(true[foreground]), numbered_zeros(predicted)[foreground]
    predicted = pairs_together(predicted)
    expected = 2 * np.sum(true & predicted) / (np.sum(true) + np.sum(predicted))
    assert metrics.v_rand(*segments) == pytest.approx(expected, abs=1e-12)


@no_deadline
@given(SEGMENTS)
def test_v_info_is_scikit_learn_s_normalised_mutual_information(segments):
    true, predicted = segments
    foreground = true > 0
    if not foreground.any():
        return
    expected = sklearn.metrics.normalized_mutual_info_score(
        true[foreground], numbered_zeros(predicted)[foreground], average_method='arithmetic'
    )
    assert metrics.v_info(true, predicted) == pytest.approx(expected, abs=1e-9)


def test_v_rand_and_v_info_of_a_cell_cut_in_halves():
    # Squares: 4^2 true, 2^2 + 2^2 predicted and shared. 2 * 8 / (16 + 8).
    assert metrics.v_rand([[1, 1, 1, 1]], [[1, 1, 2, 2]]) == pytest.approx(2 / 3)
    # Nothing is to be known about a single cell.
    assert metrics.v_info([[1, 1, 1, 1]], [[1, 1, 2, 2]]) == 0
    # H(true) = 1 bit, H(predicted) = 2 bits, of which 1 is about the truth.
    assert metrics.v_info([[1, 1, 2, 2]], [[1, 2, 3, 4]]) == pytest.approx(1 / 1.5)


def test_v_rand_and_v_info_without_foreground_or_without_segments():
    empty, cell = np.zeros((3, 4), int), np.ones((3, 4), int)
    assert metrics.v_rand(empty, cell) == metrics.v_info(empty, cell) == 1
    assert metrics.v_info(cell, cell) == metrics.v_rand(cell, cell) == 1
    # Twelve segments of one pixel.
    assert metrics.v_rand(cell, empty) == pytest.approx(2 * 12 / (144 + 12))


def test_grown_segments_take_the_nearest_segment():
    np.testing.assert_array_equal(
        metrics.grow_segments([[3, 0, 0, 0, 0, 0, 7]])[0, [1, 2, 4, 5]], [3, 3, 7, 7]
    )
    segments = metrics.segment(*membrane_section(30, 8)[:1], 0.3)
    grown = metrics.grow_segments(segments)
    places, own = np.argwhere(segments), segments[segments != 0]
    for pixel in np.argwhere(segments == 0):
        distance = np.linalg.norm(places - pixel, axis=1)
        assert grown[tuple(pixel)] in own[distance <= distance.min() + 1e-9]
    np.testing.assert_array_equal(grown[segments != 0], own)


def test_nothing_grows_from_nothing():
    assert not metrics.grow_segments(np.zeros((3, 4), int)).any()


def test_the_width_of_predicted_membranes_does_not_matter_after_growing():
    _, membrane = membrane_section()
    thick = ndimage.binary_dilation(membrane)
    options = {'extended': ('v_rand', 'v_info', 'false_splits', 'cremi_score')}
    scores = metrics.section_scores(thick, membrane, resolution_nm=(40, 4, 4), **options)
    assert scores['voi_split'] > 0.5 and scores['ari'] < 0.95
    assert scores['v_rand'] > 0.995 and scores['v_info'] > 0.995
    assert scores['cremi_score'] < 0.01
    assert scores['false_splits'] == 0


# CREMI


def cremi_by_its_formulas(true, predicted):
    """From the contingency table of scikit-learn; `true` masked, `predicted` without 0."""
    foreground = true > 0
    table = contingency_matrix(true[foreground], predicted[foreground]).astype(float)
    voi = sum(skimage.metrics.variation_of_information(true, predicted, ignore_labels=[0]))
    together, precise, complete = (
        np.sum(counts**2) for counts in (table, table.sum(axis=0), table.sum(axis=1))
    )
    precision, recall = together / precise, together / complete
    return np.sqrt(voi * (1 - 2 * precision * recall / (precision + recall)))


def test_cremi_score_follows_its_formulas():
    prob, membrane = flawed_section()
    true = metrics.grow_segments(metrics.true_segments(membrane))
    predicted = metrics.grow_segments(metrics.segment(prob, 0.5))
    left_out = metrics.border_mask(true, (40, 4, 4), 12)
    found = metrics.cremi_score(true, predicted, (40, 4, 4), border_nm=12)
    expected = cremi_by_its_formulas(np.where(left_out, 0, true), predicted)
    assert found.score == pytest.approx(expected) and expected > 0.1
    assert found.score == pytest.approx(
        np.sqrt((found.voi_split + found.voi_merge) * found.adapted_rand_error)
    )


@no_deadline
@given(
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9).flatmap(
        lambda shape: hnp.arrays(np.int64, shape, elements=st.integers(0, 2))
    ),
    st.sampled_from([0.0, 4.0, 7.5, 13.0]),
)
def test_border_mask_holds_what_is_near_pixels_with_another_neighbour(ids, border_nm):
    height, width = ids.shape
    border = [
        (y, x)
        for y in range(height)
        for x in range(width)
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        if 0 <= y + dy < height and 0 <= x + dx < width and ids[y, x] != ids[y + dy, x + dx]
    ]
    expected = np.zeros(ids.shape, bool)
    for y, x in np.ndindex(ids.shape):
        expected[y, x] = any(
            np.hypot(4 * (y - v), 5 * (x - u)) <= border_nm + 1e-9 for v, u in border
        )
    np.testing.assert_array_equal(metrics.border_mask(ids, (40, 4, 5), border_nm), expected)


def test_errors_close_to_true_borders_do_not_count():
    true = np.repeat([[1, 2]], 20, axis=1).repeat(10, axis=0)
    predicted = np.repeat([[5, 6]], [25, 15], axis=1).repeat(10, axis=0)
    # The border moved by 5 pixels of 4 nm, all within 25 nm of the last pixel of 1.
    assert metrics.cremi_score(true, predicted, (40, 4, 4)).score == 0
    assert metrics.cremi_score(true, predicted, (40, 4, 4), border_nm=8).score > 0


def test_background_of_the_truth_does_not_count():
    true = np.repeat([[1, 0]], 20, axis=1).repeat(10, axis=0)
    predicted = np.where(true, 1, np.arange(40))
    assert metrics.cremi_score(true, predicted, (40, 4, 4)).score == 0
    nothing = metrics.cremi_score(np.zeros_like(true), predicted, (40, 4, 4))
    assert nothing == (0, 0, 0, 0)


def test_ids_of_a_stack_go_on_from_section_to_section():
    true = np.array([[[1, 1, 1, 1]], [[1, 1, 1, 1]]])
    predicted = np.array([[[3, 3, 3, 3]], [[4, 4, 4, 4]]])
    # Each section is perfect; the neuron is cut between them: 1 bit, and half of 8^2 pairs.
    assert metrics.cremi_score(true[0], predicted[0], (40, 4, 4)).score == 0
    found = metrics.cremi_score(true, predicted, (40, 4, 4))
    assert (found.voi_split, found.voi_merge) == (1, 0)
    assert found.adapted_rand_error == pytest.approx(1 - 2 * 32 / (64 + 32))


class ReadBySection:
    """A stack that can only be asked for whole sections."""

    def __init__(self, stack):
        self._stack = stack
        self.shape = stack.shape

    def __len__(self):
        return len(self._stack)

    def __getitem__(self, z):
        assert isinstance(z, int)
        return self._stack[z]


def test_stacks_are_scored_a_section_at_a_time():
    rng = np.random.default_rng(0)
    true = np.repeat(np.repeat(rng.integers(0, 9, (3, 4, 4)), 8, axis=1), 8, axis=2)
    predicted = np.repeat(np.repeat(rng.integers(1, 9, (3, 4, 4)), 8, axis=1), 8, axis=2)
    true = (true.astype(np.uint64)) * 10**12
    found = metrics.cremi_score(
        ReadBySection(true), ReadBySection(predicted), (40, 4, 4), border_nm=4
    )
    masked = np.stack([np.where(metrics.border_mask(t, (40, 4, 4), 4), 0, t) for t in true])
    assert found.score == pytest.approx(
        cremi_by_its_formulas((masked // 10**12).astype(np.int64), predicted)
    )


def test_cremi_score_refuses_shapes_that_differ():
    with pytest.raises(InputError, match=r'\[z, y, x\]; got \(2, 3\) and \(3, 2\)'):
        metrics.cremi_score(np.ones((2, 3)), np.ones((3, 2)), (40, 4, 4))


def in_a_row(*sizes):
    """Segments of so many pixels, numbered from 1."""
    return np.repeat(np.arange(len(sizes)) + 1, sizes)[None]


@pytest.mark.parametrize(('pixel_nm', 'masked'), [(25, 4), (25.1, 2)])
def test_25_nm_beside_a_border_are_left_out(pixel_nm, masked):
    true = in_a_row(20, 20)
    predicted, resolution_nm = true.copy(), (40, pixel_nm, pixel_nm)
    predicted[0, 18] = 2  # beside the border's own pixel
    assert metrics.border_mask(true, resolution_nm).sum() == masked
    assert (metrics.cremi_score(true, predicted, resolution_nm).score == 0) == (masked == 4)


# False splits and merges


def test_cells_that_are_cut_and_joined_are_counted():
    one, three = in_a_row(60), in_a_row(20, 20, 20)
    assert metrics.false_splits_and_merges(one, three) == (2, 0)
    assert metrics.false_splits_and_merges(three, one) == (0, 2)
    assert metrics.false_splits_and_merges(three, three) == (0, 0)
    # The border of the first two cells is missing, the third cell is cut.
    assert metrics.false_splits_and_merges(in_a_row(20, 20, 40), in_a_row(40, 20, 20)) == (1, 1)


def test_small_overlaps_are_no_errors():
    # 9 pixels are too few, 12 of 300 too small a share of both.
    assert metrics.false_splits_and_merges(in_a_row(100, 109), in_a_row(109, 100)) == (0, 0)
    assert metrics.false_splits_and_merges(in_a_row(300, 312), in_a_row(312, 300)) == (0, 0)
    assert metrics.false_splits_and_merges(in_a_row(300, 320), in_a_row(320, 300)) == (1, 1)
    # A small cell swallowed whole is one, however large the other.
    assert metrics.false_splits_and_merges(in_a_row(1000, 12), in_a_row(1012)) == (0, 1)
    found = metrics.false_splits_and_merges(
        in_a_row(100, 109), in_a_row(109, 100), min_pixels=5, min_share=0
    )
    assert found == (1, 1)


def test_membrane_is_no_segment():
    true, predicted = in_a_row(20, 20, 20), in_a_row(20, 20, 20)
    predicted[0, 15:25] = 0
    true[0, 35:45] = 0
    assert metrics.false_splits_and_merges(true, predicted) == (0, 0)
    assert metrics.false_splits_and_merges(true, np.zeros_like(true)) == (0, 0)


@no_deadline
@given(SEGMENTS, st.integers(0, 6), st.sampled_from([0.0, 0.2, 0.5]))
def test_splits_and_merges_equal_a_count_by_hand(segments, min_pixels, min_share):
    true, predicted = segments
    counts = {
        (i, j)
        for i in range(1, 6)
        for j in range(1, 6)
        if (both := np.sum((true == i) & (predicted == j))) >= max(min_pixels, 1)
        and both >= min_share * min(np.sum(true == i), np.sum((predicted == j) & (true > 0)))
    }
    splits = len(counts) - len({i for i, _ in counts})
    merges = len(counts) - len({j for _, j in counts})
    found = metrics.false_splits_and_merges(
        true, predicted, min_pixels=min_pixels, min_share=min_share
    )
    assert found == (splits, merges)


# clDice


def line(*gaps):
    mask = np.zeros((9, 40), bool)
    mask[4] = True
    mask[4, list(gaps)] = False
    return mask


def test_cl_dice_of_gaps_and_false_branches():
    # All of the prediction is right, and 30 of 40 pixels are there.
    assert metrics.cl_dice(line(*range(10)), line()) == pytest.approx(2 * 0.75 / 1.75)
    assert metrics.cl_dice(line(), line(*range(10))) == pytest.approx(2 * 0.75 / 1.75)


def test_cl_dice_does_not_mind_the_width_of_lines():
    thick = ndimage.binary_dilation(line(), np.ones((3, 1)))
    # The skeleton of a thick line is a pixel short at an end.
    assert 0.98 < metrics.cl_dice(thick, line()) == metrics.cl_dice(line(), thick) <= 1
    assert metrics.dice(thick, line()) == pytest.approx(0.5)


def borders(mask):
    """Places of the pixels of a mask with one of the four neighbours outside."""
    grown = ndimage.binary_dilation(~mask, ndimage.generate_binary_structure(2, 1))
    return np.argwhere(mask & grown)


@no_deadline
@given(MASKS, st.sampled_from((1, 2, 3)))
def test_boundary_f_counts_border_pixels_within_the_tolerance(mask_pair, tolerance):
    predicted, true = (np.asarray(mask, bool) for mask in mask_pair)
    here, there = borders(predicted), borders(true)
    if not len(here) or not len(there):
        expected = float(len(here) == len(there))
    else:
        near = np.linalg.norm(here[:, None] - there, axis=-1) <= tolerance
        precision, recall = near.any(1).mean(), near.any(0).mean()
        total = precision + recall
        expected = 2 * precision * recall / total if total else 0.0
    found = metrics.boundary_f(predicted, true, tolerance=tolerance)
    assert found == pytest.approx(expected, abs=1e-12)


def test_boundary_f_tolerates_two_pixels():
    for away, expected in ((2, 1), (3, 0)):
        assert metrics.boundary_f(line(), np.roll(line(), away, axis=0)) == expected


def test_boundary_f_does_not_see_what_is_ignored():
    rng = np.random.default_rng(0)
    predicted, true, ignore = rng.random((3, 40, 50)) < [[[0.5]], [[0.5]], [[0.0]]]
    ignore[:, :20] = True
    other = predicted.copy()
    other[:, :20] ^= rng.random((40, 20)) < 0.5
    score = metrics.boundary_f(predicted, true, ignore)
    assert 0 < score == metrics.boundary_f(other, true, ignore)


def test_dice_of_all_cell_says_what_dice_is_worth():
    (_, truth), prediction = membrane_section(64), np.zeros((64, 64))
    scores = metrics.section_scores(prediction, truth, extended=['dice_all_cell'])
    assert scores['dice_all_cell'] == scores['dice'] < 1


def test_cl_dice_of_empty_masks():
    assert metrics.cl_dice(np.zeros((4, 5)), np.zeros((4, 5))) == 1
    assert metrics.cl_dice(np.zeros((9, 40)), line()) == 0
    assert metrics.cl_dice(line(), np.zeros((9, 40))) == 0


def test_cl_dice_of_a_section_follows_its_formula():
    prob, membrane = flawed_section()
    predicted = prob >= 0.5
    precision = membrane[skeletonize(predicted)].mean()
    sensitivity = predicted[skeletonize(membrane)].mean()
    assert precision < 0.95 and sensitivity < 0.95
    expected = 2 / (1 / precision + 1 / sensitivity)
    assert metrics.cl_dice(predicted, membrane) == pytest.approx(expected)


@no_deadline
@given(MASKS)
def test_cl_dice_is_symmetric_bounded_and_perfect_on_itself(masks):
    a, b = masks
    assert metrics.cl_dice(a, b) == pytest.approx(metrics.cl_dice(b, a))
    assert 0 <= metrics.cl_dice(a, b) <= 1
    assert metrics.cl_dice(a, a) == 1


def test_ids_of_64_bits_stay_apart_beside_small_ones():
    true = np.ones((2, 8, 12), np.uint64)
    true[1, :, :6], true[1, :, 6:] = 2, 3
    merged = np.minimum(true, 2)
    expected = metrics.cremi_score(true, merged, (40, 4, 4), border_nm=0)
    assert expected.voi_merge > 0.4
    large = np.array([0, 1, 720_000_000_000_000_001, 720_000_000_000_000_002], np.uint64)
    found = metrics.cremi_score(large[true], large[merged], (40, 4, 4), border_nm=0)
    np.testing.assert_allclose(found, expected)
