"""What loading a run makes of a results.json that is damaged."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up import RESOLUTION_NM, STEP, tiny, write_run

from taclnet_jax import metrics
from taclnet_jax.errors import InputError
from taclnet_jax.evaluation.card import model_card
from taclnet_jax.inference import Cut, load, loading
from taclnet_jax.metrics.maps import MAPS

WRONG = (None, True, 'x', -1, float('nan'), [], {}, [1, 2], [1, 2, 'x'])


def damaged(entry: Any) -> Iterator[Any]:
    """The JSON value with one part of it missing or another thing."""
    yield from WRONG
    parts = entry.items() if isinstance(entry, dict) else enumerate(entry)
    for key, value in parts:
        without = copy.deepcopy(entry)
        del without[key]
        yield without
        of_part = damaged(value) if isinstance(value, dict | list) else WRONG
        for wrong in of_part:
            changed = copy.deepcopy(entry)
            changed[key] = wrong
            yield changed


def test_damaged_results_are_as_none_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / 'run', tiny())
    path = run / 'results.json'
    whole = json.loads(path.read_text())
    model = load(run)
    assert (model.step, model.resolution_nm) == (STEP, RESOLUTION_NM) and set(model.chosen) == {
        *MAPS
    }
    assert not capsys.readouterr().err
    used = 0
    for content in damaged(whole):
        path.write_text(json.dumps(content))
        found = loading._scored(path, STEP)
        said = capsys.readouterr().err
        if found == ({}, None):
            assert f'{path} cannot be used' in said
        else:  # a closing may be none
            cuts, resolution_nm = found
            assert not said and resolution_nm == RESOLUTION_NM
            assert all(isinstance(cut, Cut) and cut.threshold >= 0 for cut in cuts.values())
            used += 1
        with pytest.raises(InputError, match='results.json, found something else'):
            model_card(model, run)
    assert used == len(MAPS)
    for text in ('', '{"P": ', '\x00', '[' * 10**5):
        path.write_text(text)
        assert loading._scored(path, STEP) == ({}, None)
        assert f'{path} cannot be used' in capsys.readouterr().err
    path.unlink()
    assert loading._scored(path, STEP) == ({}, None) and not capsys.readouterr().err


def evaluated(path: Path, step: int) -> dict[str, Any]:
    """A results.json of which a card can be made, with the scores of a step's network."""
    results = json.loads(path.read_text())
    means = dict.fromkeys((*metrics.MAIN, *metrics.EXTENDED), 0.5)
    results |= {name: results[name] | {'mean': means, 'std': means} for name in MAPS}
    results |= {'dataset': 'synthetic', 'fold': 3, 'sections': [8, 9], 'step': step}
    path.write_text(json.dumps(results))
    return results


def test_scores_of_an_older_network_are_not_those_of_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / 'run', tiny())
    path = run / 'results.json'
    evaluated(path, STEP - 1)
    model = load(run)
    assert f'it is of step {STEP - 1}, the best network now of {STEP}' in capsys.readouterr().err
    assert not model.chosen
    path.with_name('data.json').write_text(json.dumps({'resolution_nm': RESOLUTION_NM}))
    with pytest.raises(InputError, match=f'scores of step {STEP - 1}, not of {STEP}.*evaluate it'):
        model_card(load(run), run)


def test_no_card_without_cuts_and_voxel_size(tmp_path: Path) -> None:
    run = write_run(tmp_path / 'run', tiny())
    path = run / 'results.json'
    results = evaluated(path, STEP)
    assert 'Sections 8 to 9 were held out' in model_card(load(run), run)
    path.write_text(json.dumps(results | {'resolution_nm': [40, 4]}))
    with pytest.raises(InputError, match='no cuts and voxel size.*evaluate it first'):
        model_card(load(run), run)
