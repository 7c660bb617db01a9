"""Pixels that nobody labelled: what lies there, or is predicted there, counts for nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from metric_cases import flawed_section, membrane_section

from taclnet_jax import metrics
from taclnet_jax.data.labels import membranes_from_ids
from taclnet_jax.errors import InputError

RESOLUTION = (40.0, 4.0, 4.0)
few = settings(deadline=None, max_examples=25)  # cores are shared


def all_scores(prob, membrane, ids=None, ignore=None, **options):
    return metrics.section_scores(
        prob,
        membrane,
        ids,
        ignore=ignore,
        extended=True,
        resolution_nm=RESOLUTION,
        betti_patch=8,
        betti_patches=5,
        **options,
    )


@st.composite
def sections(draw):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
    prob, other_prob = (
        draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.4, 0.6, np.nan])))
        for _ in range(2)
    )
    masks = [draw(hnp.arrays(np.bool_, shape)) for _ in range(3)]
    ids = [draw(hnp.arrays(np.uint32, shape, elements=st.integers(0, 4))) for _ in range(2)]
    return prob, other_prob, masks, ids


@few
@given(sections(), st.booleans())
def test_nothing_under_the_ignored_pixels_changes_any_score(section, with_ids):
    prob, other_prob, (membrane, other_membrane, ignore), (ids, other_ids) = section
    scores = all_scores(prob, membrane, ids if with_ids else None, ignore)
    scribbled = all_scores(
        np.where(ignore, other_prob, prob),
        np.where(ignore, other_membrane, membrane),
        np.where(ignore, other_ids, ids) if with_ids else None,
        ignore,
    )
    np.testing.assert_equal(scribbled, scores)  # NaN is NaN


@few
@given(sections(), st.booleans())
def test_ignoring_nothing_changes_no_score(section, with_ids):
    prob, _, (membrane, *_), (ids, _) = section
    ids = ids if with_ids else None
    nothing = np.zeros(prob.shape, bool)
    found, expected = all_scores(prob, membrane, ids, nothing), all_scores(prob, membrane, ids)
    np.testing.assert_equal(found, expected)


@pytest.mark.parametrize('with_ids', [False, True])
def test_ignoring_all_but_a_rectangle_is_scoring_the_rectangle(with_ids):
    prob, membrane = flawed_section()
    ids = metrics.grow_segments(metrics.true_segments(membrane)) % 7 if with_ids else None
    rows, columns = slice(11, 61), slice(20, 73)
    ignore = np.ones(membrane.shape, bool)
    ignore[rows, columns] = False
    whole = all_scores(prob, membrane, ids, ignore)
    inner = all_scores(
        prob[rows, columns], membrane[rows, columns], None if ids is None else ids[rows, columns]
    )
    # The Betti error has its patches elsewhere, and CREMI's mask goes along ignored pixels.
    same = [name for name in inner if name not in ('betti_error', 'cremi_score')]
    assert {name: whole[name] for name in same} == pytest.approx({n: inner[n] for n in same})
    assert min(inner['voi_merge'], inner['betti_matching_error'], inner['false_merges']) > 0


def test_where_all_is_ignored_or_nothing_labelled_there_are_no_scores():
    prob, membrane = membrane_section(20, 5)
    ignored = all_scores(prob, membrane, ignore=np.ones(membrane.shape, bool))
    nothing = all_scores(prob, np.ones_like(membrane), np.zeros(membrane.shape, int))
    for scores in (ignored, nothing):
        assert scores.keys() == metrics.HIGHER_IS_BETTER.keys()
        assert np.isnan(list(scores.values())).all()
    labelled = all_scores(prob, membrane)
    assert metrics.summarise([ignored, labelled, nothing]) == metrics.summarise([labelled])
    with pytest.raises(InputError, match='at least one section with a cell'):
        metrics.summarise([ignored])


def test_cells_that_are_all_membrane_have_no_scores():
    ids = np.arange(40).reshape(5, 8) // 2 + 1  # two pixels wide, each beside another cell
    membrane = membranes_from_ids(ids[None], dilation_px=0)[0]
    assert membrane.all()
    scores = all_scores(np.zeros(ids.shape), membrane, ids)
    assert np.isnan(list(scores.values())).all()
    membrane[2, 2:4] = False
    assert np.isfinite(list(all_scores(np.zeros(ids.shape), membrane, ids).values())).all()


def test_sections_without_a_cell_choose_no_threshold():
    prob, membrane = membrane_section(20, 5)
    probs, thresholds = [prob, prob], (0.3, 0.5)
    alone = metrics.best_over_thresholds([prob], [membrane], None, thresholds, 'voi')
    empty = [membrane, np.ones_like(membrane)]
    assert metrics.best_over_thresholds(probs, empty, None, thresholds, 'voi') == alone
    with pytest.raises(InputError, match='at least one section with a cell'):
        metrics.best_over_thresholds([prob], empty[1:], None, thresholds, 'voi')


def test_cells_joined_through_ignored_tissue_are_not_joined():
    membrane = np.array([[0, 1, 0], [0, 1, 0], [0, 0, 0]], bool)
    ids = np.array([[1, 0, 2], [1, 0, 2], [1, 0, 2]])
    ignore = np.zeros((3, 3), bool)
    ignore[2] = True
    np.testing.assert_array_equal(
        metrics.segment(membrane, 0.5, ignore), [[1, 0, 2], [1, 0, 2], [0, 0, 0]]
    )
    scores = all_scores(membrane, membrane, ids, ignore)
    assert scores['ari'] == 1 and scores['voi'] == 0


def test_ids_are_cut_where_they_are_ignored():
    ids = np.array([[7, 7, 7, 7, 9]], np.uint64)
    ignore = np.array([[0, 0, 1, 0, 0]], bool)
    membrane = np.zeros(ids.shape, bool)
    np.testing.assert_array_equal(metrics.true_segments(membrane, ids, ignore), [[1, 1, 0, 2, 3]])


def test_ignored_pixels_are_membrane_of_both_to_the_betti_error():
    true = np.zeros((9, 9), bool)
    true[4] = True
    predicted = np.zeros((9, 9), bool)
    ignore = np.zeros((9, 9), bool)
    ignore[3:6] = True
    assert metrics.betti_error(predicted, true) == 1
    assert metrics.betti_error(predicted, true, ignore) == 0


def test_ignored_pixels_of_training_sections_choose_no_threshold():
    membrane = np.zeros((1, 9), bool)
    membrane[0, 4] = True
    prob = np.array([[0.1, 0.1, 0.1, 0.1, 0.8, 0.1, 0.1, 0.3, 0.1]])
    ignore = np.zeros((1, 9), bool)
    thresholds = [0.2, 0.5]
    sections = [prob], [membrane], None, thresholds, 'voi'
    assert metrics.best_over_thresholds(*sections)[1] == 0.5
    ignore[0, 7:] = True
    _, chosen = metrics.best_over_thresholds(*sections, ignores=[ignore])
    assert chosen == 0.2


def test_ignored_pixels_of_another_shape_are_refused():
    section = np.zeros((4, 4))
    with pytest.raises(InputError, match='one shape'):
        metrics.section_scores(section, section, ignore=np.zeros((4, 5), bool))
    with pytest.raises(InputError, match='one shape'):
        metrics.section_scores(section, section, section.astype(int), ignore=np.zeros(4, bool))
