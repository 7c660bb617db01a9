"""What is scored, by which threshold, and what is written down, of predictions that are known."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from commands import small_settings

from taclnet_jax import figures, metrics
from taclnet_jax.config import run_settings
from taclnet_jax.cores import hardware
from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.evaluation import evaluate as evaluate_module
from taclnet_jax.evaluation import scoring
from taclnet_jax.evaluation.evaluate import evaluate
from taclnet_jax.evaluation.scoring import Validation, score
from taclnet_jax.inference import Cut, SectionPrediction
from taclnet_jax.losses import LOSSES
from taclnet_jax.metrics.maps import MAPS


@pytest.fixture(scope='module')
def volume() -> Volume:
    return synthetic_volume(seed=1, shape=(12, 48, 48))


def flawed(volume: Volume, z: int) -> np.ndarray:
    """P of a section: its membranes, with gaps."""
    prob = np.where(volume.membrane[z], 0.9, 0.1).astype(np.float32)
    prob[::7] *= 0.4
    return prob


@pytest.fixture
def predicted(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sections that were predicted: P has gaps, P_hat has none."""
    asked: list[int] = []

    def predict(infer: Any, params: Any, image: Any, targets: Any) -> Iterator[SectionPrediction]:
        for z, stretch in targets:
            assert z in stretch
            asked.append(z)
            refined = np.where(volume.membrane[z], 0.9, 0.1).astype(np.float32)
            zeros = np.zeros_like(refined)
            yield SectionPrediction(z, flawed(volume, z), zeros, zeros, refined)

    monkeypatch.setattr(evaluate_module, 'predict_sections', predict)
    monkeypatch.setattr(scoring, 'predict_sections', predict)
    return asked


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is most of the time."""
    monkeypatch.setattr(evaluate_module, 'write_pictures', lambda *args: [])


def model(**changes: Any) -> Any:
    settings = small_settings(**changes)
    return SimpleNamespace(settings=settings, variables=None, step=7, inference=lambda: None)


@pytest.mark.usefixtures('no_pictures')
def test_test_sections_are_scored_and_written_down(
    volume: Volume, predicted: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = evaluate(model(evaluate__threshold=0.4), volume, tmp_path)
    assert predicted == results['sections'] == [8, 9, 10, 11]
    written = json.loads((tmp_path / 'results.json').read_text())
    assert written == json.loads(json.dumps(results))
    assert results['step'] == 7 and results['resolution_nm'] == [40, 4, 4]
    assert run_settings(written['config']) == model(evaluate__threshold=0.4).settings
    # P_hat is the truth.
    assert results['P_hat']['mean']['dice'] == 1 and results['P_hat']['mean']['voi'] == 0
    assert results['P']['mean']['voi'] > results['P_closed']['mean']['voi']
    for name in MAPS:
        assert results[name]['threshold'] == 0.4
        assert results[name]['closing'] == (0.2 if name.endswith('closed') else None)
        vois = [section['voi'] for section in results[name]['per_section']]
        assert results[name]['mean']['voi'] == pytest.approx(np.mean(vois))
        assert results[name]['std']['voi'] == pytest.approx(np.std(vois))
        assert set(results[name]['mean']) == {*metrics.MAIN, *metrics.EXTENDED}
    printed = capsys.readouterr().out
    assert '4 sections from 8 to 11, parameters of step 7' in printed
    assert '| P_hat | 0.40 | 1.0000 ± 0.0000 |' in printed


@pytest.mark.usefixtures('no_pictures')
@pytest.mark.parametrize(
    ('changes', 'sections'),
    [
        ({'evaluate__test_sections': 2}, [9, 11]),
        ({'fold': 1}, [0, 1, 2, 3]),
        ({'evaluate__threshold_from': 'validation'}, [5, 6, 7, 8, 9, 10, 11]),
        ({'evaluate__threshold_from': 'training'}, list(range(12))),
        (
            {'evaluate__threshold_from': 'training', 'evaluate__threshold_sections': 2},
            [2, 6, 8, 9, 10, 11],
        ),
    ],
)
def test_thresholds_come_from_sections_that_are_not_scored(
    changes: dict[str, Any],
    sections: list[int],
    volume: Volume,
    predicted: list[int],
    tmp_path: Path,
) -> None:
    results = evaluate(model(**changes), volume, tmp_path)
    assert predicted == sections
    if 'evaluate__threshold_from' in changes:  # P_hat is cut anywhere between 0.1 and 0.9
        assert results['P']['threshold'] < 0.5 and results['P_hat']['mean']['voi'] == 0


def test_pictures_are_made_of_every_so_many_sections(
    volume: Volume, predicted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_module, '_WORST', 0)
    evaluate(model(evaluate__picture_every=3), volume, tmp_path)
    names = sorted(path.name for path in (tmp_path / 'pictures').iterdir())
    assert names == [f'{what}_{z:03d}.png' for what in ('attention', 'section') for z in (8, 11)]


@pytest.mark.slow
def test_the_report_shows_the_worst_sections_first(
    volume: Volume, predicted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voi = {8: 0.1, 9: 0.2, 10: 0.9, 11: 0.5}

    def scored(settings: Any, volume: Volume, z: int, *args: Any, **options: Any) -> Any:
        return dict.fromkeys((*metrics.MAIN, *metrics.EXTENDED), 0.25) | {'voi': voi[z]}

    monkeypatch.setattr(evaluate_module, 'score', scored)
    monkeypatch.setattr(evaluate_module, '_WORST', 2)
    figures.training_curves(tmp_path / 'curves.png', [{'epoch': 1, 'train/loss': 0.5}])
    evaluate(model(evaluate__picture_every=9), volume, tmp_path)
    # The first of so many, and the two worst; 9 was among them for a while.
    names = sorted(path.name for path in (tmp_path / 'pictures').iterdir())
    assert names == [
        f'{what}_{z:03d}.png' for what in ('attention', 'section') for z in (8, 10, 11)
    ]
    text = (tmp_path / 'report.html').read_text()
    rows = re.findall(r'<tr><td>(\d+)</td>.*?</tr>', text)
    assert rows == ['10', '11', '9', '8']
    captions = re.findall(r'<figcaption>Section (\d+): (\w+)', text)
    pictured = [(z, what) for z in ('10', '11', '8') for what in ('truth', 'attention')]
    assert captions == pictured and text.count('<img') == 1 + len(pictured)
    assert '://' not in text and 'phase_one.epochs' in text and hardware() in text
    for name in (*metrics.MAIN, *metrics.EXTENDED):
        assert f'<td>{metrics.COLUMNS[name]}</td>' in text


@pytest.mark.slow
@pytest.mark.parametrize('what', ['score', 'write_pictures', 'hardware'])
def test_an_evaluation_that_fails_leaves_the_one_before(
    what: str, volume: Volume, predicted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(model(), volume, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    left = iter(range(2))

    def fail(*args: Any, **options: Any) -> Any:
        if what == 'hardware' or next(left, None) is None:
            raise OSError(28, 'No space left on device')
        return {'voi': 0.0}

    monkeypatch.setattr(evaluate_module, what, fail)
    with pytest.raises(OSError, match='No space'):
        evaluate(model(evaluate__picture_every=1), volume, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()} == before


@pytest.mark.slow
@pytest.mark.usefixtures('predicted')
def test_pictures_of_an_evaluation_before_do_not_stay(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_module, '_WORST', 0)
    evaluate(model(evaluate__picture_every=1), volume, tmp_path)
    evaluate(model(evaluate__picture_every=3), volume, tmp_path)
    assert len(list((tmp_path / 'pictures').iterdir())) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'pictures',
        'report.html',
        'results.json',
    ]


@pytest.mark.parametrize('refined', [False, True])
@pytest.mark.parametrize('threshold_from', ['fixed', 'validation'])
def test_validation_scores_what_the_run_trains(
    refined: bool, threshold_from: str, volume: Volume, predicted: list[int]
) -> None:
    settings = small_settings(
        evaluate__threshold_from=threshold_from, evaluate__threshold=0.4
    ).evaluate
    loss: Callable[..., Any] = LOSSES['cross_entropy']
    validate = Validation(settings, None, volume, (range(5, 8),), loss, refined)
    scores, picture = validate(None)
    assert predicted == [5, 6, 7]
    assert picture.ndim == 3 and picture.shape[-1] == 3 and picture.dtype == np.uint8
    assert (abs(scores['threshold'] - 0.4) < 1e-9) == (threshold_from == 'fixed')
    probs = [
        np.where(volume.membrane[z], 0.9, 0.1) if refined else flawed(volume, z) for z in predicted
    ]
    expected = [
        metrics.section_scores(
            prob,
            volume.membrane[z],
            volume.ids[z],
            threshold=scores['threshold'],
            betti_patch=16,
            betti_patches=5,
        )
        for z, prob in zip(predicted, probs, strict=True)
    ]
    for name in metrics.MAIN:
        assert scores[name] == pytest.approx(np.mean([section[name] for section in expected]))
    losses = [
        loss(jnp.asarray(prob, jnp.float32), jnp.asarray(volume.membrane[z]), jnp.ones((48, 48)))
        for z, prob in zip(predicted, probs, strict=True)
    ]
    assert scores['loss'] == pytest.approx(np.mean(losses), rel=1e-5)


def test_what_is_ignored_is_not_scored(volume: Volume) -> None:
    ignore = np.zeros(volume.shape, bool)
    ignore[:, 20:] = True
    masked = dataclasses.replace(volume, ignore=ignore)
    prob = np.where(volume.membrane[3], 0.9, 0.1).astype(np.float32)
    prob[20:] = 0.5
    settings = small_settings(evaluate__betti_patch=8).evaluate
    assert score(settings, masked, 3, prob, Cut(0.5))['voi'] == 0
    assert score(settings, volume, 3, prob, Cut(0.5))['voi'] > 0


def test_the_hardware_is_what_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('os.sched_getaffinity', lambda process: {0, 1, 5}, raising=False)
    assert hardware().startswith('1 CPU device(s), 3 ')


@pytest.mark.usefixtures('no_pictures')
def test_sections_without_a_cell_are_left_out_and_said(
    volume: Volume, predicted: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert volume.ids is not None
    ids = np.array(volume.ids)
    ids[[4, 9]] = 0
    partly = dataclasses.replace(volume, ids=ids, membrane=ids == 0)
    full = evaluate(model(), volume, tmp_path / 'full')
    results = evaluate(model(), partly, tmp_path / 'partly')
    assert results['sections'] == [8, 10, 11]
    for name in MAPS:
        kept = [
            s for z, s in zip(full['sections'], full[name]['per_section'], strict=True) if z != 9
        ]
        assert results[name]['per_section'] == kept
    assert 'No labelled cell has an interior in 1 of 4 sections (test sections)' in caplog.text
    json.loads((tmp_path / 'partly' / 'results.json').read_text(), parse_constant=pytest.fail)
    ids[8:] = 0
    with pytest.raises(
        InputError, match='cells with an interior in one of 4 sections from 8 to 11'
    ):
        evaluate(model(), dataclasses.replace(partly, membrane=ids == 0), tmp_path / 'none')
