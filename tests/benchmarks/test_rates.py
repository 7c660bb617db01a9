"""The comparison of learning rates: what it changes of a system."""

from __future__ import annotations

from benchmarks.rates import configured
from reproduction.systems import Run, run_config
from taclnet_jax.config import run_settings
from taclnet_jax.config.schema import flatten
from taclnet_jax.config.shipped import read_config_file


def test_a_rate_changes_the_schedule_alone() -> None:
    run = Run('isbi12', 'mosinska', 3, 0)
    ours = flatten(run_settings(configured(run, 0.02, 8)))
    theirs = flatten(run_settings(run_config(read_config_file('isbi12'), run, {})))
    changed = {key: value for key, value in ours.items() if value != theirs[key]}
    assert changed == {
        'phase_one.learning_rate': 0.02,
        'phase_one.epochs': 8,
        'phase_two.epochs': 0,
        'evaluate.every_epochs': 8,
        'augment.elastic': 0.0,
    }
