"""The compared systems."""

from __future__ import annotations

from reproduction.systems import SYSTEMS, Run, run_config
from taclnet_jax.config import run_settings
from taclnet_jax.config.shipped import read_config_file


def test_systems_differ_in_nothing_but_themselves():
    base = read_config_file('isbi12')
    for name, system in SYSTEMS.items():
        config = run_config(base, Run('isbi12', name, 2, 7, 5), {'phase_two.epochs': 0})
        run_settings(config)
        assert (config.fold, config.seed, config.slices) == (2, 7, 5)
        assert config.validation_sections >= 5 and config.phase_two.epochs == 0
        assert {key.split('.')[0] for key in system.settings} <= {
            'model',
            'attention',
            'loss',
            'topological_loss',
            'perceptual_loss',
            'optimizer',
            'phase_one',
            'phase_two',
        }
        assert not any(key.endswith('epochs') for key in system.settings)
    assert base.fold == 3  # untouched


def test_systems_have_the_same_time():
    base = read_config_file('isbi12')
    schedule = {'phase_one.epochs': 120, 'phase_two.epochs': 40}
    for name, system in SYSTEMS.items():
        config = run_config(base, Run('isbi12', name, 3, 0), schedule)
        for phase, cost, epochs in zip(('one', 'two'), system.cost, (120, 40), strict=True):
            own = config[f'phase_{phase}'].epochs
            assert abs(own * cost - epochs) <= cost / 2, (name, phase)
    assert SYSTEMS['flagship'].cost[0] == 1


def test_a_number_of_sections_can_have_a_rate_of_its_own():
    base = read_config_file('isbi12')
    for slices, rate in ((1, 3e-2), (3, 3e-2), (5, 1e-1)):
        config = run_config(base, Run('isbi12', 'taclnet', 3, 0, slices), {})
        assert config.phase_one.learning_rate == rate
        assert config.phase_two.learning_rate == rate / 10
