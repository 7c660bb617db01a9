"""The scores against hand-computed cases, scikit-image, gudhi and what must hold of any of them."""

from __future__ import annotations

import gudhi
import numpy as np
import pytest
import skimage.metrics
from hypothesis import given
from hypothesis import strategies as st
from metric_cases import MASKS, SEGMENTS, membrane_section, no_deadline, numbered_zeros

from taclnet_jax import metrics
from taclnet_jax.errors import InputError

# DICE


def test_dice_of_hand_computed_masks():
    predicted = np.array([[1, 1, 0], [1, 0, 0]], bool)
    true = np.array([[1, 0, 0], [1, 1, 0]], bool)
    assert metrics.dice(predicted, true) == pytest.approx(2 * 2 / (3 + 3))


def test_dice_of_empty_masks():
    empty, full = np.zeros((2, 3), bool), np.ones((2, 3), bool)
    assert metrics.dice(empty, empty) == 1
    assert metrics.dice(empty, full) == 0


@no_deadline
@given(MASKS)
def test_dice_is_symmetric_bounded_and_perfect_on_itself(masks):
    a, b = masks
    assert metrics.dice(a, b) == metrics.dice(b, a)
    assert 0 <= metrics.dice(a, b) <= 1
    assert metrics.dice(a, a) == 1


# Segmentation


def test_segments_are_four_connected():
    prob = np.array([[0.0, 1.0, 0.2], [1.0, 0.1, 0.2]])
    np.testing.assert_array_equal(metrics.segment(prob, 0.5), [[1, 0, 2], [0, 2, 2]])
    assert metrics.segment(prob, 0.5).dtype == np.int32


def test_threshold_itself_and_nan_are_membrane():
    prob = np.array([[0.4, 0.5, 0.4, np.nan, 0.4]])
    np.testing.assert_array_equal(metrics.segment(prob, 0.5), [[1, 0, 2, 0, 3]])


def test_constant_sections_are_one_segment_or_none():
    assert metrics.segment(np.zeros((5, 4)), 0.5).tolist() == [[1] * 4] * 5
    assert not metrics.segment(np.ones((5, 4)), 0.5).any()


def test_true_segments_without_ids_are_components_of_the_cells():
    membrane = np.array([[0, 1, 0], [0, 1, 0]], bool)
    np.testing.assert_array_equal(metrics.true_segments(membrane), [[1, 0, 2], [1, 0, 2]])


def test_true_segments_split_ids_that_are_apart_in_the_section():
    ids = np.array([[7, 7, 0, 7], [9, 9, 0, 7]], np.uint64)
    found = metrics.true_segments(np.zeros(ids.shape, bool), ids)
    np.testing.assert_array_equal(found, [[1, 1, 0, 2], [3, 3, 0, 2]])


def test_true_segments_leave_out_membrane_but_are_not_cut_by_it():
    ids = np.array([[7, 7, 7, 9, 9]])
    membrane = np.array([[0, 1, 0, 1, 0]], bool)
    np.testing.assert_array_equal(metrics.true_segments(membrane, ids), [[1, 0, 1, 0, 2]])


# Adapted Rand


def test_adapted_rand_of_a_cell_cut_in_halves():
    # Truth: all 6 pairs of 4 pixels. Predicted: 2 pairs, both right. 2 * 2 / (6 + 2).
    assert metrics.adapted_rand_fscore([[1, 1, 1, 1]], [[1, 1, 2, 2]]) == pytest.approx(0.5)


def test_adapted_rand_of_two_cells_joined():
    assert metrics.adapted_rand_fscore([[1, 1, 2, 2]], [[5, 5, 5, 5]]) == pytest.approx(0.5)


def test_adapted_rand_leaves_out_true_membrane():
    true = [[1, 1, 0, 2, 2]]
    assert metrics.adapted_rand_fscore(true, [[3, 3, 3, 4, 4]]) == 1
    assert metrics.adapted_rand_fscore(true, [[3, 3, 0, 4, 4]]) == 1


def test_predicted_membrane_is_in_no_pair():
    # Pairs within cells: 3 + 3 true, 1 + 1 predicted and right. 2 * 2 / (6 + 2). Taken as one
    # segment, the two membrane pixels would be a false pair.
    assert metrics.adapted_rand_fscore([[1, 1, 1, 2, 2, 2]], [[1, 1, 0, 0, 2, 2]]) == 0.5


def test_adapted_rand_without_pairs():
    assert metrics.adapted_rand_fscore(np.zeros((3, 3), int), np.ones((3, 3), int)) == 1
    assert metrics.adapted_rand_fscore([[1]], [[1]]) == 1
    assert metrics.adapted_rand_fscore(np.ones((3, 3), int), np.zeros((3, 3), int)) == 0


@no_deadline
@given(SEGMENTS)
def test_adapted_rand_equals_scikit_image(segments):
    true, predicted = segments
    foreground = np.unique(true[true > 0], return_counts=True)[1]
    if not np.any(foreground > 1):
        return  # 0 / 0 in scikit-image
    with np.errstate(invalid='ignore'):
        error, _, _ = skimage.metrics.adapted_rand_error(
            true, numbered_zeros(predicted), ignore_labels=(0,)
        )
    assert metrics.adapted_rand_fscore(true, predicted) == pytest.approx(1 - error, abs=1e-12)


def test_adapted_rand_equals_scikit_image_on_a_section():
    prob, membrane = membrane_section()
    true, predicted = metrics.true_segments(membrane), metrics.segment(prob, 0.5)
    error, _, _ = skimage.metrics.adapted_rand_error(true, numbered_zeros(predicted))
    assert 0 < error < 1
    assert metrics.adapted_rand_fscore(true, predicted) == pytest.approx(1 - error, abs=1e-12)


# Variation of information


def test_variation_of_information_of_cuts_and_joins_in_bits():
    assert metrics.variation_of_information([[1, 1, 1, 1]], [[1, 1, 2, 2]]) == (1, 0)
    assert metrics.variation_of_information([[1, 1, 2, 2]], [[1, 1, 1, 1]]) == (0, 1)
    split, merge = metrics.variation_of_information([[1, 1, 1, 2]], [[1, 1, 1, 1]])
    assert split == 0
    assert merge == pytest.approx(-(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)))


def test_thick_membrane_is_a_split_and_never_a_merge():
    split, merge = metrics.variation_of_information([[1, 1, 2, 2]], [[1, 0, 0, 2]])
    assert (split, merge) == (1, 0)


def test_variation_of_information_leaves_out_true_membrane():
    assert metrics.variation_of_information([[1, 1, 0, 2, 2]], [[3, 3, 3, 4, 4]]) == (0, 0)


def test_variation_of_information_of_an_empty_foreground():
    assert metrics.variation_of_information(np.zeros((3, 3)), np.ones((3, 3))) == (0, 0)


@no_deadline
@given(SEGMENTS)
def test_variation_of_information_equals_scikit_image(segments):
    true, predicted = segments
    if not true.any():
        return  # 0 / 0 in scikit-image
    expected = skimage.metrics.variation_of_information(
        true, numbered_zeros(predicted), ignore_labels=[0]
    )
    found = metrics.variation_of_information(true, predicted)
    np.testing.assert_allclose(found, expected, atol=1e-9)


# Both scores of segmentations


@no_deadline
@given(SEGMENTS, st.permutations(range(1, 6)))
def test_numbers_of_segments_do_not_matter(segments, order):
    true, predicted = segments
    renumber = np.array([0, *order]) * 10**12
    for score in (metrics.adapted_rand_fscore, metrics.variation_of_information):
        assert score(renumber[true], predicted) == pytest.approx(score(true, predicted))
        assert score(true, renumber[predicted]) == pytest.approx(score(true, predicted))


@no_deadline
@given(SEGMENTS)
def test_scores_of_segmentations_stay_in_their_ranges(segments):
    true, predicted = segments
    assert 0 <= metrics.adapted_rand_fscore(true, predicted) <= 1
    split, merge = metrics.variation_of_information(true, predicted)
    assert 0 <= split <= np.log2(true.size) + 1e-9
    assert 0 <= merge <= np.log2(true.size) + 1e-9


@no_deadline
@given(SEGMENTS)
def test_scores_are_symmetric_where_nothing_is_membrane(segments):
    a, b = segments[0] + 1, segments[1] + 1
    assert metrics.adapted_rand_fscore(a, b) == pytest.approx(metrics.adapted_rand_fscore(b, a))
    assert metrics.variation_of_information(a, b) == pytest.approx(
        metrics.variation_of_information(b, a)[::-1]
    )


@no_deadline
@given(SEGMENTS)
def test_truth_itself_is_perfect(segments):
    true, _ = segments
    assert metrics.adapted_rand_fscore(true, true) == 1
    assert metrics.variation_of_information(true, true) == (0, 0)


def test_shapes_that_differ_are_refused():
    with pytest.raises(InputError, match=r'\(2, 3\) and \(3, 2\)'):
        metrics.adapted_rand_fscore(np.ones((2, 3)), np.ones((3, 2)))


# Betti error


def framed_loops(membrane):
    """The 1-dimensional Betti number of membrane with a frame, by gudhi's persistence."""
    framed = np.pad(membrane, 1, constant_values=True)
    complex_ = gudhi.CubicalComplex(top_dimensional_cells=np.where(framed, 0.0, 1.0))
    complex_.compute_persistence(homology_coeff_field=2)
    return complex_.persistent_betti_numbers(0.0, 0.5)[1]


@no_deadline
@given(MASKS)
def test_betti_error_of_one_patch_equals_gudhi(masks):
    a, b = masks
    expected = abs(framed_loops(a) - framed_loops(b))
    assert metrics.betti_error(a, b, patch=12, count=1) == expected


def test_betti_error_is_the_mean_over_patches_by_gudhi():
    prob, true = membrane_section()
    predicted = prob >= 0.5
    # As wide as the section, a patch can only slide down: the mean over all its places is known.
    tops = range(80 - 24 + 1)
    by_top = [
        abs(framed_loops(predicted[y : y + 24, :24]) - framed_loops(true[y : y + 24, :24]))
        for y in tops
    ]
    found = metrics.betti_error(predicted[:, :24], true[:, :24], patch=24, count=3000, seed=1)
    assert found == pytest.approx(np.mean(by_top), rel=0.1)


def test_betti_error_of_hand_computed_sections():
    true = np.zeros((9, 9), bool)
    true[4] = True
    assert metrics.betti_error(np.zeros((9, 9), bool), true) == 1  # one piece instead of two
    assert metrics.betti_error(np.ones((9, 9), bool), true) == 2
    cross = true.copy()
    cross[:, 4] = True
    assert metrics.betti_error(cross, true) == 2


def test_touching_corners_separate_pieces_of_cell():
    checkerboard = np.array([[0, 1], [1, 0]], bool)
    assert metrics.betti_error(checkerboard, np.ones((2, 2), bool)) == 2


def test_betti_patches_depend_on_the_seed_alone():
    prob, true = membrane_section()
    options = {'patch': 16, 'count': 20}
    first = metrics.betti_error(prob >= 0.5, true, seed=3, **options)
    np.random.seed(0)
    assert metrics.betti_error(prob >= 0.5, true, seed=3, **options) == first
    assert any(
        metrics.betti_error(prob >= 0.5, true, seed=seed, **options) != first for seed in range(5)
    )


@no_deadline
@given(MASKS, st.integers(1, 8))
def test_betti_error_is_symmetric_and_zero_on_itself(masks, patch):
    a, b = masks
    options = {'patch': patch, 'count': 5}
    assert metrics.betti_error(a, b, **options) == metrics.betti_error(b, a, **options) >= 0
    assert metrics.betti_error(a, a, **options) == 0


def test_betti_error_refuses_what_has_no_patches():
    mask = np.zeros((4, 4), bool)
    with pytest.raises(InputError, match='count 0'):
        metrics.betti_error(mask, mask, count=0)
    with pytest.raises(InputError, match=r'shape \(4,\)'):
        metrics.betti_error(mask[0], mask[0])


# A section's scores, their summary, the threshold


RESOLUTION = (40.0, 4.0, 4.0)


def test_section_scores_are_those_of_the_single_functions():
    prob, membrane = membrane_section()
    scores = metrics.section_scores(
        prob, membrane, threshold=0.4, betti_patch=32, betti_patches=7, seed=5
    )
    assert list(scores) == list(metrics.MAIN)
    segments, true = metrics.segment(prob, 0.4), metrics.true_segments(membrane)
    predicted = prob >= 0.4
    split, merge = metrics.variation_of_information(true, segments)
    assert scores == {
        'dice': metrics.dice(~predicted, ~membrane),
        'dice_membrane': metrics.dice(predicted, membrane),
        'ari': metrics.adapted_rand_fscore(true, segments),
        'voi': split + merge,
        'voi_split': split,
        'voi_merge': merge,
        'betti_error': metrics.betti_error(predicted, membrane, patch=32, count=7, seed=5),
    }
    assert all(type(score) is float for score in scores.values())


def test_betti_patches_are_100_of_64_pixels_unless_told_otherwise():
    prob, membrane = membrane_section()
    error = metrics.betti_error(prob >= 0.5, membrane, patch=64, count=100, seed=0)
    assert metrics.section_scores(prob, membrane)['betti_error'] == error
    assert metrics.betti_error(prob >= 0.5, membrane) == error


def test_extended_scores_are_those_of_the_single_functions():
    prob, membrane = membrane_section()
    scores = metrics.section_scores(prob, membrane, extended=True, resolution_nm=RESOLUTION)
    segments, true = metrics.segment(prob, 0.5), metrics.true_segments(membrane)
    grown = metrics.grow_segments(segments)
    islands, pieces = metrics.betti_matching_error(prob >= 0.5, membrane)
    splits, merges = metrics.false_splits_and_merges(true, segments)
    joined = skimage.metrics.adapted_rand_error(true, segments, ignore_labels=[0])[0]
    joined_voi = skimage.metrics.variation_of_information(true, segments, ignore_labels=[0])
    assert {name: scores[name] for name in metrics.EXTENDED} == {
        'dice_all_cell': metrics.dice(np.ones_like(membrane), ~membrane),
        'boundary_f': metrics.boundary_f(prob >= 0.5, membrane),
        'ari_joined': pytest.approx(1 - joined),
        'voi_joined': pytest.approx(sum(joined_voi)),
        'v_rand': metrics.v_rand(true, grown),
        'v_info': metrics.v_info(true, grown),
        'cremi_score': metrics.cremi_score(true, grown, RESOLUTION).score,
        'cl_dice': metrics.cl_dice(prob >= 0.5, membrane),
        'betti_matching_error': islands + pieces,
        'betti_matching_error_0': islands,
        'betti_matching_error_1': pieces,
        'false_splits': splits,
        'false_merges': merges,
    }
    assert all(type(score) is float for score in scores.values())
    assert tuple(scores) == (*metrics.MAIN, *metrics.EXTENDED)


def test_extended_scores_can_be_asked_for_by_name():
    prob, membrane = membrane_section()
    scores = metrics.section_scores(prob, membrane, extended=['cl_dice', 'false_merges'])
    assert tuple(scores) == (*metrics.MAIN, 'cl_dice', 'false_merges')
    with pytest.raises(InputError, match="v_rand, .* got 'v_rant'"):
        metrics.section_scores(prob, membrane, extended=['v_rant'])
    with pytest.raises(InputError, match=r'resolution_nm=\(z, y, x\)'):
        metrics.section_scores(prob, membrane, extended=['cremi_score'])


def test_every_score_has_a_direction_and_a_column():
    names = (*metrics.MAIN, *metrics.EXTENDED)
    assert tuple(metrics.HIGHER_IS_BETTER) == tuple(metrics.COLUMNS) == names
    assert len(set(metrics.COLUMNS.values())) == len(names)


@pytest.mark.parametrize('shape', [(1, 1), (1, 30), (33, 17), (70, 90)])
def test_perfect_prediction_is_perfect_in_every_score(shape):
    membrane = membrane_section(90)[1][: shape[0], : shape[1]]
    scores = metrics.section_scores(
        membrane.astype(np.float32), membrane, extended=True, resolution_nm=RESOLUTION
    )
    del scores['dice_all_cell']  # says what dice is worth
    for name in scores:
        higher = metrics.HIGHER_IS_BETTER[name]
        assert scores[name] == pytest.approx(1 if higher else 0, abs=1e-9), name


def test_scores_get_worse_with_the_prediction():
    _, membrane = membrane_section()
    rng = np.random.default_rng(0)
    gaps = membrane & (rng.random(membrane.shape) < 0.2)
    lines = np.zeros_like(membrane)
    lines[::17] = True
    worse = metrics.section_scores(
        (membrane & ~gaps) | lines, membrane, extended=True, resolution_nm=RESOLUTION
    )
    for name, higher in metrics.HIGHER_IS_BETTER.items():
        if name != 'betti_matching_error_0':  # lines and what is left of membranes hang together
            assert (worse[name] < 1) if higher else (worse[name] > 0), name


def test_perfect_prediction_is_perfect_for_ids_in_several_pieces():
    _, membrane = membrane_section()
    ids = np.where(membrane, 0, metrics.true_segments(membrane) % 3 + 1)
    scores = metrics.section_scores(membrane.astype(float), membrane, ids)
    assert (scores['ari'], scores['voi']) == (1, 0)


@pytest.mark.parametrize('prob', [0.0, 1.0, np.nan])
@pytest.mark.parametrize('membrane', [False, True])
@pytest.mark.parametrize('shape', [(1, 1), (6, 9)])
def test_constant_sections_have_finite_scores(prob, membrane, shape):
    scores = metrics.section_scores(
        np.full(shape, prob), np.full(shape, membrane), extended=True, resolution_nm=RESOLUTION
    )
    # Of a truth without a cell there is nothing to score.
    assert all(np.isnan(s) if membrane else np.isfinite(s) for s in scores.values())


def test_section_scores_refuse_shapes_that_differ():
    with pytest.raises(InputError, match='one shape'):
        metrics.section_scores(np.zeros((4, 4)), np.zeros((4, 5), bool))
    with pytest.raises(InputError, match='one shape'):
        metrics.section_scores(np.zeros((4, 4)), np.zeros((4, 4), bool), np.zeros((5, 4), int))


def test_summary_is_mean_and_population_deviation():
    summary = metrics.summarise([{'ari': 0.5, 'voi': 1.0}, {'ari': 0.9, 'voi': 1.0}])
    assert summary == {'ari': (pytest.approx(0.7), pytest.approx(0.2)), 'voi': (1.0, 0.0)}
    assert metrics.summarise([{'ari': 0.5}]) == {'ari': (0.5, 0.0)}
    with pytest.raises(InputError, match='at least one section'):
        metrics.summarise([])


@pytest.mark.parametrize('metric', ['voi', 'ari', 'betti_error', 'v_rand', 'cremi_score'])
def test_chosen_threshold_has_the_best_mean_score(metric):
    options = {'extended': [metric], 'resolution_nm': RESOLUTION}
    sections = [membrane_section(seed=seed) for seed in range(3)]
    probs, membranes = zip(*sections, strict=True)
    grid = [0.2, 0.4, 0.6, 0.8]
    means = [
        np.mean([metrics.section_scores(p, m, threshold=t, **options)[metric] for p, m in sections])
        for t in grid
    ]
    best = max(means) if metrics.HIGHER_IS_BETTER[metric] else min(means)
    found = metrics.best_over_thresholds(
        probs, membranes, None, grid, metric, resolution_nm=RESOLUTION
    )
    assert found == (pytest.approx(best), grid[means.index(best)])


def test_chosen_threshold_uses_ids_and_prefers_the_earliest():
    membrane = np.zeros((1, 5), bool)
    prob = np.array([[0.0, 0.0, 0.3, 0.0, 0.0]])
    grid = [0.2, 0.25, 0.5]
    assert metrics.best_over_thresholds([prob], [membrane], None, grid, 'voi')[1] == 0.5
    ids = np.array([[1, 1, 0, 2, 2]])
    assert metrics.best_over_thresholds([prob], [membrane], [ids], grid, 'voi')[1] == 0.2


def test_choosing_refuses_unknown_metrics_and_nothing_to_choose_from():
    section = np.zeros((3, 3))
    with pytest.raises(InputError, match="voi, .* got 'rand'"):
        metrics.best_over_thresholds([section], [section], None, [0.5], 'rand')
    with pytest.raises(InputError, match='at least one threshold'):
        metrics.best_over_thresholds([section], [section], None, [])
