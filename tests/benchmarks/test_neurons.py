"""Ways to neurons, on stacks made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from commands import Run
from stacks import numbered_through

from benchmarks.neuron_ways import WAYS, Stretch, _affinity
from benchmarks.neurons import main, rows_of, stretch_of, weakened, without_some
from taclnet_jax.inference import Cut

# As large as the farthest affinities.
COLUMNS = np.tile(np.repeat([1, 0, 2], [14, 2, 16]), (6, 32, 1))


def columns() -> Stretch:
    return Stretch(weakened(COLUMNS, 0), numbered_through(COLUMNS), COLUMNS)


@pytest.mark.parametrize('way', ['overlap', 'linkage', 'smaller', 'waterz', 'mutex'])
def test_every_way_finds_two_columns(way: str) -> None:
    pytest.importorskip({'waterz': 'waterz', 'mutex': 'mwatershed'}.get(way, 'numpy'))
    constants = WAYS[way][1]
    rows = rows_of(way, columns(), constants, (30, 6, 6))
    assert [row.constant for row in rows] == [
        str(c).strip('()').replace(',', '').replace("'", '') for c in constants
    ]
    assert min(row.voi for row in rows) == pytest.approx(0)
    assert min(row.arand for row in rows) == pytest.approx(0)


def test_segments_alone_are_split_and_the_best_of_them_is_the_truth() -> None:
    alone, best = rows_of('none', columns(), ('alone', 'truth'), (30, 6, 6))
    assert alone.split == pytest.approx(np.log2(6)) and alone.merge == 0
    assert best.voi == pytest.approx(0)


def test_sections_are_cut_as_prediction_cuts_them() -> None:
    stretch = stretch_of(weakened(COLUMNS, 0), COLUMNS, slice(2, 5), Cut(0.5))
    np.testing.assert_array_equal(stretch.cells, numbered_through(COLUMNS[2:5]))


def test_affinity_is_that_of_the_worst_voxel_on_the_way() -> None:
    prob = np.array([[[0.1, 0.9, 0.2, 0.0]]], np.float32)
    near = 1 - np.array([0.9, 0.9, 0.2])
    np.testing.assert_allclose(_affinity(prob, (0, 0, 1))[0, 0], [*near, 0], rtol=1e-6)
    np.testing.assert_allclose(_affinity(prob, (0, 0, 1), before=True)[0, 0], [0, *near], rtol=1e-6)
    far = 1 - np.array([0.9, 0.9])
    np.testing.assert_allclose(_affinity(prob, (0, 0, 2))[0, 0], [*far, 0, 0], rtol=1e-6)


def test_lost_sections_are_not_scored() -> None:
    truth = np.ones((40, 2, 2), int)
    prob, kept = without_some(np.full(truth.shape, 0.5, np.float32), truth, 0.1)
    lost = np.flatnonzero((kept == 0).all((1, 2)))
    assert len(lost) == 4 and 1 in np.diff(lost)
    assert sorted(set(prob[lost].ravel())) == [0, 1]
    assert (np.delete(prob, lost, axis=0) == 0.5).all() and (np.delete(kept, lost, axis=0)).all()


@pytest.mark.slow
def test_a_finished_run_is_compared_on_its_own_volume(
    trained: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ['--choose=0:6', '--score=6:12', '--ways', 'none', 'overlap']
    monkeypatch.setattr('sys.argv', ['neurons', f'--run={trained.workdir}', *flags])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith('| overlap |') for line in lines) == len(WAYS['overlap'][1]) + 1
