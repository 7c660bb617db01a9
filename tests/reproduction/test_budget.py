"""Schedules that fit into the time there is."""

from __future__ import annotations

from reproduction.budget import Costs, fitting_schedule, needed_seconds

SCHEDULE = {'phase_one.epochs': 20, 'phase_one.halve_every': 10, 'phase_two.epochs': 4}


def test_a_budget_shortens_all_runs_alike():
    # 10 + 20 * 5 + 4 * 5 = 130 s, and 10 + 4 * 5 = 30 s with the other run's phase one.
    runs = [Costs(10, (5, 5)), Costs(10, (5, 5), origin=0)]
    assert fitting_schedule(SCHEDULE, runs, 160) == SCHEDULE
    # Half of the epochs: 10 + 50 + 10 and 10 + 10 = 90 s.
    half = {'phase_one.epochs': 10, 'phase_one.halve_every': 5, 'phase_two.epochs': 2}
    assert fitting_schedule(SCHEDULE, runs, 90) == half
    assert fitting_schedule(SCHEDULE, runs, 89)['phase_one.epochs'] == 9
    least = {'phase_one.epochs': 1, 'phase_one.halve_every': 1, 'phase_two.epochs': 1}
    assert fitting_schedule(SCHEDULE, runs, 0) == least


def test_runs_side_by_side_need_less_time_but_wait_for_their_phase_one():
    runs = [Costs(10, (5, 5)), Costs(10, (5, 5), origin=0), Costs(10, (5, 5), origin=0)]
    # The first: 100 s of phase one, 30 s more. The second follows at 100, the third at 130.
    assert needed_seconds(runs, SCHEDULE) == 130 + 30 + 30
    assert needed_seconds(runs, SCHEDULE, jobs=2) == 160
    assert needed_seconds(runs, SCHEDULE, jobs=3) == 130
    assert fitting_schedule(SCHEDULE, runs, 160, jobs=2) == SCHEDULE
    assert fitting_schedule(SCHEDULE, runs, 159, jobs=2)['phase_one.epochs'] == 19
