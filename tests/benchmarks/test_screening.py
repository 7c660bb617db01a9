"""The comparison of variants: what each changes, and its table."""

from __future__ import annotations

import pytest

from benchmarks.screening import SCORES, VARIANTS, configured, table
from taclnet_jax.config import run_settings
from taclnet_jax.config.schema import flatten
from taclnet_jax.metrics.maps import CLOSED_MAPS


@pytest.mark.parametrize('variant', VARIANTS)
def test_a_variant_changes_what_it_says_and_sees_no_section_that_is_scored(variant: str) -> None:
    settings = run_settings(configured(variant, 2))
    base = flatten(run_settings(configured('base', 2)))
    changed = {key for key, value in flatten(settings).items() if value != base[key]}
    assert changed == set(VARIANTS[variant])
    assert settings.data.sections == (0, 20) and settings.sampling.fold == 2


def test_the_table_has_means_over_the_rotations() -> None:
    def run(updates: int, value: float) -> dict[str, object]:
        return {'updates': updates, **{name: dict.fromkeys(SCORES, value) for name in CLOSED_MAPS}}

    lines = table({'base': {1: run(30, 0.25), 3: run(20, 0.75)}}, 5).splitlines()
    assert lines[0].startswith('5 minutes')
    assert lines[-1] == '| base | 1,3 | 20-30 |' + ' 0.500 |' * len(CLOSED_MAPS) * len(SCORES)
