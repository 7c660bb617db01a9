"""What the tests of the tables share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reproduction.results import SCHEDULE, influential
from taclnet_jax.config.settings import RunSettings
from taclnet_jax.metrics.maps import MAPS

SETTINGS = influential(RunSettings()) | {
    'dataset': 'isbi12',
    'evaluate.threshold_from': 'training',
    'phase_one.epochs': 20,
    'phase_two.epochs': 4,
}


def make_result(
    system: str = 'taclnet',
    fold: int = 3,
    seed: int = 0,
    slices: int = 3,
    settings: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    names = ('dice', 'ari', 'voi', 'betti_error')
    scores = {name: changes.pop(name, [0.5, 0.5]) for name in names}
    sections = len(scores['dice'])
    scores = {
        key: value if len(value) == sections else [0.5] * sections for key, value in scores.items()
    }
    low = {key: [0.1] * sections for key in scores}
    return {
        'dataset': 'isbi12',
        'content': 'real',
        'system': system,
        'fold': fold,
        'seed': seed,
        'slices': slices,
        'updates': 672,
        'step': 600,
        'seconds': {'wall': 900.0, 'epoch_phase_2': 42.0},
        'phase_one_from': '',
        'hardware': 'two cores',
        'version': '0.1.0',
        'sections': list(range(10 * (fold - 1), 10 * (fold - 1) + sections)),
        **{
            name: {'threshold': 0.4, 'closing': None, 'scores': scores if name == 'P_hat' else low}
            for name in MAPS
        },
        'schedule': {key: (SETTINGS | (settings or {}))[key] for key in SCHEDULE},
        'config': SETTINGS | (settings or {}),
    } | changes


@pytest.fixture
def result() -> Callable[..., dict[str, Any]]:
    """Makes a result; metrics by name are those of P_hat, the other maps have 0.1 everywhere."""
    return make_result
