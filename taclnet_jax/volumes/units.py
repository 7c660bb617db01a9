"""Lengths in nm, from the many ways in which files spell a unit."""

import math
from collections.abc import Sequence
from typing import Any

from taclnet_jax.volumes.sections import Triple

_NM = {
    'nm': 1.0,
    'nanometer': 1.0,
    'nanometre': 1.0,
    'angstrom': 0.1,
    'å': 0.1,
    'pm': 1e-3,
    'picometer': 1e-3,
    'um': 1e3,
    'µm': 1e3,
    'micron': 1e3,
    'micrometer': 1e3,
    'micrometre': 1e3,
    'mm': 1e6,
    'millimeter': 1e6,
    'millimetre': 1e6,
    'cm': 1e7,
    'centimeter': 1e7,
    'centimetre': 1e7,
    'm': 1e9,
    'meter': 1e9,
    'metre': 1e9,
    'inch': 2.54e7,
}


def nm_per(unit: object) -> float | None:
    """Length of a unit in nm; None for pixels and whatever else is no known length."""
    if not isinstance(unit, str):
        return None
    # ImageJ escapes the micro sign; Unicode has it twice, as a sign and as a Greek letter.
    name = unit.strip().replace('\\u00B5', 'µ').replace('μ', 'µ').lower()
    return _NM.get(name) or _NM.get(name.removesuffix('s'))


def triple_nm(values: Any, units: Any = 'nm', *, positive: bool = True) -> Triple | None:
    """Three numbers of a file's metadata in nm.

    Args:
        values: three numbers (z, y, x).
        units: of all, or one for each.
        positive: whether only numbers above 0 make sense.

    Returns:
        (z, y, x) in nm; None unless there are three such numbers and their units are known.
    """
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        return None
    names = list(units) if isinstance(units, Sequence) and not isinstance(units, str) else None
    scales = [nm_per(name) for name in (names or [units] * len(numbers))]
    if len(numbers) != 3 or len(scales) != 3:
        return None
    if not all(math.isfinite(number) and (number > 0 or not positive) for number in numbers):
        return None
    z, y, x = (
        None if scale is None else number * scale
        for number, scale in zip(numbers, scales, strict=True)
    )
    return None if z is None or y is None or x is None else (z, y, x)
