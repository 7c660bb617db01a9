"""Padding counts in no statistic of a section, whatever its value, width and type."""

from __future__ import annotations

import numpy as np
import pytest

from taclnet_jax.data.normalisation import normalised
from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.volumes import as_uint8_image, read_whole

TISSUE = np.asarray(synthetic_volume(3, (3, 64, 96)).image)


@pytest.mark.parametrize('value', [0, 128, 255])
@pytest.mark.parametrize('margins', [(1, 1), (4, 4), (13, 7), (40, 0)])
def test_tissue_is_the_same_beside_padding(margins: tuple[int, int], value: int):
    expected = read_whole(normalised(TISSUE))
    sides = (0, 0), margins, margins[::-1]
    padded = np.pad(TISSUE, sides, constant_values=value)
    y, x = margins[0], margins[1]
    inner = read_whole(normalised(padded))[:, y : y + 64, x : x + 96]
    # A line of tissue that goes on in the padding's value may be taken for some of it.
    np.testing.assert_allclose(inner, expected, atol=0.1)


def test_zeros_of_a_mosaic_do_not_count_in_8_bits_as_in_16():
    mosaic = np.zeros((1, 140, 200), np.uint8)
    tiles = [(0, 0), (3, 100), (70, 4), (73, 104)]  # seams of some pixels between them
    for (y, x), section in zip(tiles, np.repeat(TISSUE, 2, axis=0), strict=False):
        mosaic[0, y : y + 64, x : x + 96] = section
    tissue = mosaic > 0
    sixteen = as_uint8_image(mosaic.astype(np.uint16) * 200, 'a')
    for stack in (mosaic, sixteen):
        found = read_whole(normalised(stack))[tissue]
        assert abs(found.mean()) < 0.05 and abs(found.std() - 1) < 0.05
