"""Nothing of the sections that are scored reaches what is trained and chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from commands import small_config

from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.main import train_and_evaluate
from taclnet_jax.metrics.maps import MAPS
from taclnet_jax.training.reporting import read_metrics
from taclnet_jax.volumes import write_array

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('without_pictures', 'compiled_once')]

TRAINING, VALIDATION, TEST = range(7), range(7, 10), range(10, 15)  # of fold 3


class Outcome(NamedTuple):
    """What a run made of a volume."""

    state: list[np.ndarray]  # parameters, optimizer's state, ITA memory
    losses: list[float]
    chosen: dict[str, Any]  # cuts, and the checkpoint
    validation: list[dict[str, float]]
    test: list[dict[str, float]]


def outcome(folder: Path, image: np.ndarray, ids: np.ndarray) -> Outcome:
    folder.mkdir()
    for name, array in (('image', image), ('labels', ids)):
        write_array(folder / f'{name}.zarr', array, format='zarr3', resolution_nm=(40, 4, 4))
    config = small_config(
        dataset='custom',
        custom__image=str(folder / 'image.zarr'),
        custom__labels=str(folder / 'labels.zarr'),
        evaluate__threshold_from='validation',
        attention__kind='ita',
    )
    state = train_and_evaluate(config, folder / 'run')
    results = json.loads((folder / 'run' / 'results.json').read_text())
    assert results['sections'] == [*TEST]
    records = read_metrics(folder / 'run' / 'metrics.jsonl')
    return Outcome(
        [np.asarray(leaf) for leaf in jax.tree.leaves(state)],
        [record['train/loss'] for record in records],
        {name: (results[name]['threshold'], results[name]['closing']) for name in MAPS}
        | {'step': results['step']},
        [{k: v for k, v in record.items() if k.startswith('validation')} for record in records],
        results['P']['per_section'],
    )


@pytest.fixture(scope='module')
def volume() -> tuple[np.ndarray, np.ndarray]:
    made = synthetic_volume(seed=5, shape=(15, 48, 48))
    assert made.ids is not None
    return np.asarray(made.image), np.asarray(made.ids)


@pytest.fixture(scope='module')
def expected(
    volume: tuple[np.ndarray, np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
    without_pictures: None,
    compiled_once: None,
) -> Outcome:
    return outcome(tmp_path_factory.mktemp('leaks') / 'as it is', *volume)


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_test_sections_and_their_labels_change_scores_alone(
    volume: tuple[np.ndarray, np.ndarray], expected: Outcome, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    image, ids = (array.copy() for array in volume)
    image[TEST] = rng.integers(0, 256, image[TEST].shape)
    ids[TEST] = np.kron(rng.integers(1, 5, (len(ids[TEST]), 6, 6)), np.ones((1, 8, 8), int))
    found = outcome(tmp_path / 'noise', image, ids)
    assert same(found.state, expected.state)
    assert found.losses == expected.losses
    assert found.chosen == expected.chosen
    assert found.validation == expected.validation
    assert found.test != expected.test


def test_validation_labels_choose_and_train_nothing(
    volume: tuple[np.ndarray, np.ndarray], expected: Outcome, tmp_path: Path
) -> None:
    image, ids = (array.copy() for array in volume)
    ids[VALIDATION] = ids[VALIDATION][:, ::-1, ::-1]
    found = outcome(tmp_path / 'turned', image, ids)
    assert same(found.state, expected.state) and found.losses == expected.losses
    assert found.validation != expected.validation and found.chosen != expected.chosen


def test_one_training_pixel_changes_all(
    volume: tuple[np.ndarray, np.ndarray], expected: Outcome, tmp_path: Path
) -> None:
    image, ids = (array.copy() for array in volume)
    image[3, 20, 20] ^= 255
    found = outcome(tmp_path / 'pixel', image, ids)
    assert not same(found.state, expected.state) and found.losses != expected.losses
