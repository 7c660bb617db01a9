"""Membranes that close: watershed segments, and how closing and threshold are chosen."""

from __future__ import annotations

from types import SimpleNamespace

import flax.linen as nn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from metric_cases import flawed_section, membrane_section, no_deadline
from scipy import ndimage

from taclnet_jax import metrics
from taclnet_jax.config.settings import EvaluateSettings, RunSettings
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.evaluation.thresholds import CLOSINGS, choose_cuts
from taclnet_jax.inference.cut import Cut, fixed_cuts
from taclnet_jax.inference.model import Model
from taclnet_jax.metrics.maps import MAPS

PROBS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
)


def deep_pieces(prob, closing):
    """Those below `closing` that are somewhere below half of it, one by one; 0 elsewhere."""
    pieces = metrics.segment(prob, closing)
    for number in range(1, pieces.max() + 1):
        if prob[pieces == number].min() >= np.float32(closing / 2):
            pieces[pieces == number] = 0
    return pieces


def test_a_gap_is_closed_where_it_is_narrowest():
    wall = np.zeros((11, 11))
    wall[:, 5] = 0.9
    wall[4:7, 5] = 0.3  # a gap at 0.5, none at 0.2
    assert metrics.segment(wall, 0.5).max() == 1
    closed = metrics.close_membranes(wall, threshold=0.95, closing=0.2)
    np.testing.assert_array_equal(np.argwhere(closed == 1), [[y, 5] for y in range(11)])
    assert metrics.segment(closed, 0.95).max() == 2  # a threshold above all of P


def test_floods_meet_on_the_crest():
    ridge = np.array([[0.0, 0.5, 0.6, 0.9, 0.6, 0.5, 0.4, 0.0]])
    found = metrics.watershed_segments(ridge, 0.2)
    assert found[0, :3].tolist() == [1, 1, 1] and found[0, 4:].tolist() == [2] * 4


@no_deadline
@given(PROBS, st.sampled_from([0.1, 0.3, 0.5, 0.7]), st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]))
def test_what_closing_tells_apart_stays_apart(prob, closing, threshold):
    pieces = deep_pieces(prob, closing)
    segments = metrics.segment(metrics.close_membranes(prob, threshold, closing), threshold)
    for number in range(1, segments.max() + 1):
        assert len(set(pieces[segments == number].tolist()) - {0}) <= 1


@no_deadline
@given(PROBS, st.sampled_from([0.1, 0.3, 0.5, 0.7]), st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]))
def test_closing_raises_lines_and_shallow_pieces_alone(prob, closing, threshold):
    closed = metrics.close_membranes(prob, threshold, closing)
    changed = closed != prob
    assert set(closed[changed].tolist()) <= {1}
    assert not deep_pieces(prob, closing)[changed & (prob >= threshold)].any()
    # What is left of cells is deep, piece by piece.
    np.testing.assert_array_equal(
        deep_pieces(closed, threshold) > 0, metrics.segment(closed, threshold) > 0
    )


def test_a_shallow_piece_is_flooded_by_its_neighbour():
    section = np.full((7, 12), 0.9)
    section[1:6, 1:5] = 0.0
    section[1:6, 7:11] = 0.16  # an organelle, or a membrane that is faint
    assert metrics.segment(section, 0.2).max() == 2
    assert metrics.watershed_segments(section, 0.2).max() == 1
    section[3, 9] = 0.09
    assert metrics.watershed_segments(section, 0.2).max() == 2


def test_specks_in_membranes_become_membrane():
    section = np.full((7, 12), 0.9)
    section[1:6, 1:5] = 0.0
    section[2:5, 7:10] = 0.4
    closed = metrics.close_membranes(section, threshold=0.7, closing=0.1)
    assert (closed[2:5, 7:10] == 1).all() and metrics.segment(closed, 0.7).max() == 1
    section[3, 8] = 0.3  # somewhere below half of the threshold: a cell
    np.testing.assert_array_equal(
        metrics.close_membranes(section, threshold=0.7, closing=0.1), section.astype(np.float32)
    )


@pytest.mark.parametrize('value', [0, 0.5, 1, np.nan])
def test_constant_sections_have_nothing_to_close(value):
    prob = np.full((5, 7), value)
    closed = metrics.close_membranes(prob, 0.3, 0.3)
    np.testing.assert_array_equal(closed, np.nan_to_num(prob.astype(np.float32), nan=1))


def test_nothing_under_ignored_pixels_changes_what_is_closed():
    prob, _ = flawed_section()
    ignore = np.zeros(prob.shape, bool)
    ignore[20:50, 10:60] = True
    scribbled = np.where(ignore, np.random.default_rng(1).random(prob.shape), prob)
    one, other = (metrics.close_membranes(p, 0.5, 0.3, ignore) for p in (prob, scribbled))
    np.testing.assert_array_equal(one[~ignore], other[~ignore])
    assert (metrics.watershed_segments(prob, 0.3, ignore)[ignore] == 0).all()


def test_thin_membranes_without_gaps_lower_the_voi():
    _, membrane = membrane_section()
    prob = ndimage.gaussian_filter(membrane.astype(float), 1)
    prob[::7] *= 0.5  # gaps all over
    plain = min(metrics.section_scores(prob, membrane, threshold=t)['voi'] for t in (0.2, 0.3, 0.5))
    closed = metrics.close_membranes(prob, 0.6, 0.15)
    assert metrics.section_scores(closed, membrane, threshold=0.6)['voi'] < plain / 2


def labelled(sections=2):
    """A volume, and predictions of its sections in which P_hat is better than P."""
    probs, membranes = zip(*(flawed_section(seed) for seed in range(sections)), strict=True)
    image = np.zeros((sections, *probs[0].shape), np.uint8)
    volume = Volume('cells', image, np.stack(membranes), None, (40, 4, 4))
    predictions = [
        SimpleNamespace(section=z, prob=prob, refined=np.maximum(prob, 0.7 * membrane))
        for z, (prob, membrane) in enumerate(zip(probs, membranes, strict=True))
    ]
    return volume, predictions


@pytest.mark.slow
def test_cuts_are_those_of_the_lowest_voi():
    volume, predictions = labelled()
    cuts = choose_cuts(volume, predictions)
    assert tuple(cuts) == MAPS
    assert cuts['P'].closing is None and cuts['P_closed'].closing in CLOSINGS

    def voi(name, cut):
        maps = [p.refined if 'hat' in name else p.prob for p in predictions]
        scores = [
            metrics.section_scores(cut.closed(prob, None), membrane, threshold=cut.threshold)
            for prob, membrane in zip(maps, volume.membrane, strict=True)
        ]
        return np.mean([s['voi'] for s in scores])

    for name in ('P', 'P_hat'):
        threshold = cuts[name].threshold
        assert all(voi(name, cuts[name]) <= voi(name, Cut(t)) + 1e-9 for t in (0.2, 0.5, 0.8))
        closed = cuts[f'{name}_closed']
        assert closed.threshold == threshold
        for closing in (c for c in CLOSINGS if c < threshold):
            assert voi(name, closed) <= voi(name, Cut(threshold, closing)) + 1e-9
        assert voi(name, closed) <= voi(name, cuts[name])


def test_a_cut_is_fixed_or_was_chosen_when_the_network_was_scored():
    def model(**options):
        settings = RunSettings(evaluate=EvaluateSettings(threshold=0.4, **options))
        return Model(settings, nn.Module(), None, 0, {'P_closed': Cut(0.8, 0.15)}, None)

    assert model().cut('P_hat') == fixed_cuts(0.4)['P_hat'] == Cut(0.4)
    assert model().cut('P_closed') == Cut(0.4, 0.2)
    chosen = model(threshold_from='training')
    assert chosen.cut('P_closed') == Cut(0.8, 0.15)
    with pytest.raises(InputError, match='--mode=evaluate'):
        chosen.cut('P_hat')
