"""Models to hand out: trained on all sections, their cards made of results."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import run, small_config

from reproduction.models import card, make_model
from reproduction.results import write_result
from taclnet_jax.config import run_settings
from taclnet_jax.errors import InputError
from taclnet_jax.inference import load
from taclnet_jax.training.beginning import first_state
from taclnet_jax.training.setup import prepare


@pytest.fixture
def results(result, tmp_path: Path) -> Path:
    """Of three folds, whose networks had 12 updates in 6 epochs; one of another network."""
    schedule = {'phase_one.epochs': 4, 'phase_two.epochs': 2}
    for fold, threshold in ((1, 0.3), (2, 0.6), (3, 0.5)):
        made = result(
            'flagship', fold, settings=schedule, dataset='synthetic', updates=12, voi=[fold, fold]
        )
        made['P_hat_closed'] |= {'threshold': threshold, 'closing': threshold / 2}
        write_result(tmp_path / 'results', made)
    other = result('flagship', 1, slices=1, settings=schedule, dataset='synthetic', voi=[9.0, 9.0])
    other['P_hat_closed'] |= {'threshold': 0.9, 'closing': 0.9}
    write_result(tmp_path / 'results', other)
    return tmp_path / 'results'


@pytest.mark.slow
def test_a_model_of_all_sections(
    results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = small_config()
    base.crop = (48, 48)  # 12 crops in all
    base.evaluate.threshold_from = 'validation'  # as those of real data
    folder = make_model(base, 0, results, tmp_path / 'runs', tmp_path / 'models')
    assert folder == tmp_path / 'models' / 'synthetic'
    assert 'no threshold will be chosen' in caplog.text
    run_folder = tmp_path / 'runs' / 'synthetic_flagship_fold0_seed0_slices3'
    assert not (run_folder / 'results.json').exists()
    config = json.loads((run_folder / 'config.json').read_text())
    assert (config['fold'], config['validation_sections']) == (0, 0)
    model = load(folder)
    assert model.step == 12  # one step an epoch: 8 epochs and 4
    assert model.cut('P_hat_closed') == (0.5, 0.25)  # medians
    assert model.resolution_nm is not None
    text = (folder / 'README.md').read_text().replace('\n', ' ')
    assert '--model=synthetic ' in text
    assert 'each trained without one fold (1, 2, 3) and scored there' in text
    assert '| P_hat | 0.4 |  | 0.5000 ± 0.0000 |' in text and '2.0000 ± 1.0000' in text
    assert '| P_hat, closed | 0.5 | 0.25 |' in text

    base.update({'initialise_from': str(folder), 'fold': 0, 'validation_sections': 0})
    base.evaluate.threshold_from = 'training'
    settings = run_settings(base)
    training = prepare(settings)
    steps = training.loader.steps_per_epoch
    state = first_state(settings, training.volume, training.new, steps)
    jax.tree.map(np.testing.assert_array_equal, state.variables, model.variables)
    assert 'it has seen sections' not in caplog.text
    scored = run_settings(base.to_dict() | {'fold': 3, 'validation_sections': 3})
    first_state(scored, training.volume, training.new, steps)
    assert 'it has seen sections on which fold 3 is scored' in caplog.text

    status, output = run('--mode=evaluate', f'--workdir={run_folder}')
    assert status == 2 and 'config.fold=0 trains on all' in output


def test_the_card_of_a_model_that_one_fold_stands_for(result, tmp_path: Path) -> None:
    model = load('isbi12')
    text = card(model, [result('flagship', 3, dataset='isbi12')]).replace('\n', ' ')
    assert 'a network of the same settings, trained without fold 3 and scored there. This' in text


def test_it_needs_results_of_the_flagship(result, tmp_path: Path) -> None:
    write_result(tmp_path / 'results', result('unet'))
    with pytest.raises(InputError, match='results of the flagship on synthetic'):
        make_model(small_config(), 0, tmp_path / 'results', tmp_path, tmp_path)
