"""Lengths in nm, from the many ways in which files spell a unit."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from taclnet_jax.errors import InputError
from taclnet_jax.volumes.sections import Triple

_UNITS = {
    'nm nanometer nanometre': 1.0,
    'angstrom å': 0.1,
    'pm picometer': 1e-3,
    'um µm micron micrometer micrometre': 1e3,
    'mm millimeter millimetre': 1e6,
    'cm centimeter centimetre': 1e7,
    'm meter metre': 1e9,
    'inch': 2.54e7,
}
_NM = {name: nm for names, nm in _UNITS.items() for name in names.split()}


def nm_per(unit: object) -> float | None:
    """Length of a unit in nm; None for pixels and whatever else is no known length."""
    if isinstance(unit, bytes):  # HDF5
        unit = unit.decode(errors='replace')
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
        z, y, x = numbers = [float(value) for value in values]
        z_nm, y_nm, x_nm = map(nm_per, units if isinstance(units, list) else [units] * 3)
    except (TypeError, ValueError):
        return None
    if not all(math.isfinite(number) and (number > 0 or not positive) for number in numbers):
        return None
    return (z * z_nm, y * y_nm, x * x_nm) if z_nm and y_nm and x_nm else None


def given_nm(voxel_nm: Sequence[float | str]) -> Triple | None:
    """A voxel size (z, y, x) that a user gives as --voxel_nm; None where it is empty.

    Raises:
        InputError: it is something else.
    """
    size = triple_nm(voxel_nm)
    if size is None and voxel_nm:
        raise InputError(
            f'Expected --voxel_nm=z,y,x, three sizes above 0 such as 50,4,4; found {voxel_nm}.'
        )
    return size


def shown_nm(lengths: Iterable[float] | None) -> str:
    """Lengths in nm for people, such as '50 x 4 x 4 nm'."""
    return 'not said' if lengths is None else ' x '.join(f'{nm:g}' for nm in lengths) + ' nm'
