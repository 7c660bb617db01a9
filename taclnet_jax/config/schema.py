"""What a setting is: its default, its meaning, what it may be, and whether a run may change it."""

import contextlib
import dataclasses
import importlib
import os
from collections.abc import Iterable, Mapping
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from taclnet_jax.errors import InputError

T = TypeVar('T')
S = TypeVar('S', bound='Settings')

Role = Literal['training', 'phase_two', 'scoring', 'free']
"""What hangs on a setting. 'training': the network, so that a run keeps it. 'phase_two': likewise,
but that runs which differ in it can share a phase one. 'scoring': how the network is chosen and
scored, which a run may be told anew. 'free': neither, as where files lie."""

MOST = 2**31 - 1
"""The greatest whole number of a setting that names none: JAX counts in 32 bits."""


def setting(
    default: T,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    registry: str = '',
    role: Role | None = None,
) -> T:
    """A field of `Settings`.

    Args:
        default: of the field's type. Settings are a block of their own.
        meaning: for people, one sentence or two.
        low, high: the least and the greatest value, both allowed; whole numbers end at `MOST`.
        registry: 'module:NAME' of the mapping whose keys are allowed; imported when it is checked.
        role: see `Role`; 'training' if neither this nor the block around it says so.
    """
    metadata = dict(meaning=meaning, low=low, high=high, registry=registry, role=role)
    return dataclasses.field(default=default, metadata=metadata)


def block(default: T, role: Role) -> T:
    """A block of settings with a role for those in it that have none of their own."""
    return dataclasses.field(default=default, metadata={'role': role})


@dataclasses.dataclass(frozen=True)
class Settings:
    """A block of settings, checked where it is made.

    A subclass says where it stands in a configuration, `class Model(Settings, block='model')`, or
    nothing, if its fields stand among those of the block around it.

    Raises:
        InputError: a value of a wrong type or out of its range; names the setting.
    """

    BLOCK: ClassVar[str] = ''

    def __init_subclass__(cls, block: str = '') -> None:
        cls.BLOCK = block

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Settings):
                continue
            key = f'{self.BLOCK}.{field.name}' if self.BLOCK else field.name
            value = _typed(key, value, hints[field.name])
            _check_range(key, value, field.metadata['low'], field.metadata['high'])
            object.__setattr__(self, field.name, value)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One setting of a block, with its full name."""

    key: str  # such as 'phase_one.epochs'
    value: Any
    field: dataclasses.Field[Any]
    hint: Any  # its type
    role: Role

    @property
    def choices(self) -> tuple[Any, ...]:
        """What it may be; () where a type says all."""
        if get_origin(self.hint) is Literal:
            return get_args(self.hint)
        return tuple(_registry(self.field.metadata['registry']))


def entries(settings: Settings, block: str = '', role: Role = 'training') -> Iterable[Entry]:
    """All settings of a block and of those in it, in the order of their declaration."""
    hints = get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        inner: Role = field.metadata.get('role') or role
        if isinstance(value, Settings):
            yield from entries(value, value.BLOCK, inner)
        else:
            key = f'{block}.{field.name}' if block else field.name
            yield Entry(key, value, field, hints[field.name], inner)


def flatten(settings: Settings) -> dict[str, Any]:
    """The settings as {'phase_one.epochs': 350, ...}."""
    return {entry.key: entry.value for entry in entries(settings)}


def as_nested(settings: Settings) -> dict[str, Any]:
    """The settings as a configuration has them, {'seed': 0, 'phase_one': {'epochs': 350}, ...}."""
    nested: dict[str, Any] = {}
    for key, value in flatten(settings).items():
        block, _, name = key.rpartition('.')
        (nested.setdefault(block, {}) if block else nested)[name] = value
    return nested


def from_flat(default: S, values: Mapping[str, Any], block: str = '') -> S:
    """Settings like `default`, with other values for some; keys as `flatten` has them."""
    changes = {}
    for field in dataclasses.fields(default):
        value = getattr(default, field.name)
        key = f'{block}.{field.name}' if block else field.name
        if isinstance(value, Settings):
            changes[field.name] = from_flat(value, values, value.BLOCK)
        elif key in values:
            changes[field.name] = values[key]
    return dataclasses.replace(default, **changes)


def check_registries(settings: Settings) -> None:
    """Refuses names that no registry has.

    Raises:
        InputError: names the setting and what there is.
    """
    for entry in entries(settings):
        if entry.field.metadata['registry'] and entry.value not in entry.choices:
            raise _not_among(entry.key, entry.value, entry.choices)


@cache
def _registry(place: str) -> Mapping[str, Any]:
    if not place:
        return {}
    module, name = place.split(':')
    found: Mapping[str, Any] = getattr(importlib.import_module(module), name)
    return found


def _typed(key: str, value: Any, hint: Any) -> Any:
    """The value as its type has it: lists become tuples, whole numbers floats."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value not in inside or isinstance(value, bool) != isinstance(inside[0], bool):
            raise _not_among(key, value, inside)
        return inside[inside.index(value)]  # the 3 that 3.0 equals
    if origin is tuple:
        if isinstance(value, list | tuple):
            if inside[1:] == (...,):
                return tuple(_typed(key, part, inside[0]) for part in value)
            if len(value) == len(inside):
                return tuple(_typed(key, *pair) for pair in zip(value, inside, strict=True))
    elif origin in (Union, UnionType):
        for kind in inside:
            with contextlib.suppress(InputError):
                return _typed(key, value, kind)
    elif isinstance(value, bool) == (hint is bool):
        if hint is float and isinstance(value, int | float):
            with contextlib.suppress(OverflowError):
                return float(value)
        if isinstance(value, hint):
            # Of texts paths alone begin so.
            return os.path.expanduser(value) if hint is str and value.startswith('~') else value
    raise InputError(f'Expected config.{key} to be {_described(hint)}; found {value!r}.')


def _described(hint: Any) -> str:
    inside = get_args(hint)
    if hint == tuple[()]:
        return '()'
    if get_origin(hint) is tuple:
        if get_origin(inside[0]) is tuple:
            return 'brackets of whole numbers in brackets, as in "((4, 8), (20, 24))"'
        kind = _described(inside[0]).removeprefix('a ').replace('text', 'name')
        number, example = ('any number of', 2) if inside[-1] is ... else (len(inside), len(inside))
        return f'{number} {kind}s in brackets, as in "({", ".join("4" * example)})"'
    if get_origin(hint) in (Union, UnionType):
        return ' or '.join(map(_described, inside))
    names = {int: 'a whole number', float: 'a number', bool: 'True or False', str: 'text'}
    return names[hint]


def _check_range(key: str, value: Any, low: float | None, high: float | None) -> None:
    if isinstance(value, tuple):
        for part in value:
            _check_range(key, part, low, high)
    if not isinstance(value, int | float):
        return
    limit = MOST if high is None and isinstance(value, int) else high
    least, most = -float('inf') if low is None else low, float('inf') if limit is None else limit
    if least <= value <= most and abs(value) != float('inf'):
        return
    if low is None:
        bounds = 'finite' if limit is None else f'at most {limit}'
    elif limit is None or (high is None and value < low):
        bounds = f'{low} or more'
    else:
        bounds = f'from {low} to {limit}'
    raise InputError(f'Expected config.{key} to be {bounds}; found {value}.')


def _not_among(key: str, value: Any, choices: Iterable[Any]) -> InputError:
    allowed = ', '.join(map(str, choices))
    return InputError(f'Expected config.{key} to be one of {allowed}; found {value!r}.')
