"""How maps become membrane, and what of JSON is a cut or a voxel size."""

from __future__ import annotations

import math
from typing import Any

import pytest

from taclnet_jax.inference.cut import Cut, known_cut, known_voxel_size


def test_cuts_are_numbers_from_0_to_1() -> None:
    assert known_cut(0, None) == Cut(0) and known_cut(1, 0) == Cut(1, 0)
    assert known_cut(0.5, 1) == Cut(0.5, 1)
    for wrong in (1.5, -0.5, math.nan, math.inf):
        for threshold, closing in ((wrong, None), (0.5, wrong)):
            with pytest.raises(ValueError, match=f'from 0 to 1, found {wrong}'):
                known_cut(threshold, closing)
    for no_number in (True, '0.5'):
        with pytest.raises(TypeError, match=repr(no_number)):
            known_cut(no_number, None)


@pytest.mark.parametrize('wrong', [0, -4, math.inf, math.nan])
@pytest.mark.parametrize('axis', range(3))
def test_voxel_sizes_are_above_0_and_finite(wrong: float, axis: int) -> None:
    size: list[Any] = [40, 4.5, 4]
    assert known_voxel_size(size) == (40, 4.5, 4)
    size[axis] = wrong
    with pytest.raises(ValueError, match=f'found .*{wrong}'):
        known_voxel_size(size)
