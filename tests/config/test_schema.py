"""Types, ranges and choices of every setting, and what is said where a value does not fit."""

from __future__ import annotations

from typing import Any, Literal, get_origin

import pytest
from commands import small_config

from taclnet_jax.config import run_settings
from taclnet_jax.config.schema import Entry, check_registries, entries, from_flat
from taclnet_jax.config.settings import ModelSettings, RunSettings
from taclnet_jax.errors import InputError

ENTRIES = {entry.key: entry for entry in entries(RunSettings())}


def changed(key: str, value: Any) -> RunSettings:
    return from_flat(RunSettings(), {key: value})


def limited(side: str) -> list[Entry]:
    return [entry for entry in ENTRIES.values() if entry.field.metadata[side] is not None]


def by_key(entry: Entry) -> str:
    return entry.key


def test_every_setting_says_what_it_means() -> None:
    assert len(ENTRIES) > 60
    assert all(entry.field.metadata['meaning'].endswith('.') for entry in ENTRIES.values())


@pytest.mark.parametrize(
    ('key', 'value', 'words'),
    [
        ('crop', 64, 'to be 2 whole numbers in brackets, as in "(4, 4)"; found 64.'),
        ('crop', (64,), 'to be 2 whole numbers in brackets, as in "(4, 4)"; found (64,).'),
        (
            'crop',
            (32, 32, 32),
            'to be 2 whole numbers in brackets, as in "(4, 4)"; found (32, 32, 32).',
        ),
        ('crop', (32.5, 32), 'to be a whole number; found 32.5.'),
        ('crop', 'large', 'to be 2 whole numbers in brackets, as in "(4, 4)"; found \'large\'.'),
        (
            'synthetic.shape',
            (12, 48),
            'to be 3 whole numbers in brackets, as in "(4, 4, 4)"; found',
        ),
        (
            'custom.resolution_nm',
            (4, 4),
            'to be 3 numbers in brackets, as in "(4, 4, 4)" or (); found',
        ),
        (
            'model.hidden',
            4,
            'to be any number of whole numbers in brackets, as in "(4, 4)"; found 4.',
        ),
        ('model.hidden', (4, 'x'), "to be a whole number; found 'x'."),
        ('cremi.samples', 'A', 'to be any number of names in brackets, as in "(4, 4)"; found'),
        ('seed', 1.0, 'to be a whole number; found 1.0.'),
        ('seed', True, 'to be a whole number; found True.'),
        ('seed', None, 'to be a whole number; found None.'),
        ('attention.alpha', 'strong', "to be a number; found 'strong'."),
        ('attention.alpha', True, 'to be a number; found True.'),
        ('augment.symmetries', 1, 'to be True or False; found 1.'),
        ('data_dir', 3, 'to be text; found 3.'),
        ('fold', 4, 'to be one of 0, 1, 2, 3; found 4.'),
        ('fold', True, 'to be one of 0, 1, 2, 3; found True.'),
        ('attention.kind', 'all', "to be one of none, sta, ita; found 'all'."),
        ('model.kernel', 4, 'to be odd; found 4.'),
    ],
)
def test_a_value_of_a_wrong_type_is_named_with_what_is_right(
    key: str, value: Any, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        changed(key, value)
    assert str(caught.value).startswith(f'Expected config.{key} {words}')


@pytest.mark.parametrize('entry', limited('low'), ids=by_key)
def test_nothing_is_below_its_least_value(entry: Entry) -> None:
    low = entry.field.metadata['low']
    below = low - 1e-6 if entry.hint is float else low - 1
    with pytest.raises(InputError, match=f'config.{entry.key} to be .*{low:g}.*; found'):
        changed(entry.key, (low, below) if get_origin(entry.hint) is tuple else below)


@pytest.mark.parametrize('entry', limited('high'), ids=by_key)
def test_nothing_is_above_its_greatest_value(entry: Entry) -> None:
    high = entry.field.metadata['high']
    above = high + 1e-6 if entry.hint is float else high + 1
    with pytest.raises(InputError, match=f'config.{entry.key} to be .* {high}; '):
        changed(entry.key, (high, above) if get_origin(entry.hint) is tuple else above)


@pytest.mark.parametrize('entry', [e for e in ENTRIES.values() if e.hint is int], ids=by_key)
def test_whole_numbers_fit_into_32_bits(entry: Entry) -> None:
    with pytest.raises(
        InputError, match=f'config.{entry.key} to be from [0-9]+ to [0-9]+; found 2{"0" * 9}'
    ):
        changed(entry.key, 2 * 10**400)
    assert changed('seed', 2**31 - 1).seed == 2**31 - 1


def test_a_number_that_no_float_can_hold() -> None:
    with pytest.raises(InputError, match='config.attention.alpha to be a number; found 1000'):
        changed('attention.alpha', 10**400)


@pytest.mark.parametrize(
    'entry', [entry for entry in ENTRIES.values() if entry.hint is float], ids=by_key
)
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_numbers_are_finite(entry: Entry, value: float) -> None:
    with pytest.raises(InputError, match=f'config.{entry.key} to be .*; found {value}'):
        changed(entry.key, value)


@pytest.mark.parametrize(
    'entry', [entry for entry in ENTRIES.values() if entry.choices], ids=by_key
)
def test_choices_are_listed_and_all_of_them_are_allowed(entry: Entry) -> None:
    choices = ', '.join(map(str, entry.choices))
    with pytest.raises(InputError, match=f'config.{entry.key} to be one of {choices}; found'):
        check_registries(changed(entry.key, 'no such'))
    for choice in entry.choices:
        check_registries(changed(entry.key, choice))


def test_there_are_registries() -> None:
    registries = {key for key, entry in ENTRIES.items() if entry.field.metadata['registry']}
    assert registries == {
        'dataset',
        'model.name',
        'attention.form',
        'attention.backend',
        'loss',
        'optimizer.name',
        'phase_one.schedule',
        'checkpoint.best_metric',
    }
    literals = {key for key, entry in ENTRIES.items() if get_origin(entry.hint) is Literal}
    assert {'fold', 'slices', 'downsample', 'precision', 'evaluate.views'} <= literals


def test_values_become_those_of_their_type() -> None:
    settings = changed('model.hidden', [8, 4])
    assert settings.model.hidden == (8, 4)
    settings = changed('custom.resolution_nm', [40, 4, 4])
    assert settings.data.custom.resolution_nm == (40.0, 4.0, 4.0)
    alpha = changed('attention.alpha', 2).attention.alpha
    assert alpha == 2.0 and isinstance(alpha, float)


def test_a_block_alone_is_checked_where_it_is_made() -> None:
    with pytest.raises(InputError, match=r'config.model.kernel to be odd; found 2'):
        ModelSettings(kernel=2)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'phase_one__epochs': 0, 'phase_two__epochs': 0}, 'at least one epoch'),
        (
            {'evaluate__threshold_from': 'validation', 'validation_sections': 0},
            'config.validation_sections above 0',
        ),
        ({'augment__elastic_px': 13.0}, 'elastic_px to be at most a quarter .* found 13.0 and 48'),
    ],
)
def test_settings_that_contradict_each_other(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run_settings(small_config(**changes))


def test_a_choice_that_is_equal_has_the_type_of_the_choices() -> None:
    fold = run_settings(small_config().to_dict() | {'fold': 3.0}).sampling.fold
    assert fold == 3 and type(fold) is int
