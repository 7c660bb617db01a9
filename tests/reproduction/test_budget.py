"""Schedules that fit into the time there is."""

from __future__ import annotations

from reproduction.budget import Costs, fitting_schedule


def test_a_budget_shortens_all_runs_alike():
    schedule = {'phase_one.epochs': 20, 'phase_one.halve_every': 10, 'phase_two.epochs': 4}
    # 10 + 20 * 5 + 4 * 5 = 130 s, and 10 + 4 * 5 = 30 s with another run's phase one.
    runs = [Costs(10, (5, 5)), Costs(10, (5, 5)).without_phase_one()]
    assert fitting_schedule(schedule, runs, 160) == schedule
    # Half of the epochs: 10 + 50 + 10 and 10 + 10 = 90 s.
    half = {'phase_one.epochs': 10, 'phase_one.halve_every': 5, 'phase_two.epochs': 2}
    assert fitting_schedule(schedule, runs, 90) == half
    assert fitting_schedule(schedule, runs, 89)['phase_one.epochs'] == 9
    least = {'phase_one.epochs': 1, 'phase_one.halve_every': 1, 'phase_two.epochs': 1}
    assert fitting_schedule(schedule, runs, 0) == least
