"""Images in 8 bits, and the order of axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from taclnet_jax.errors import InputError
from taclnet_jax.volumes import (
    LazySections,
    Sections,
    as_uint8_image,
    as_uint8_sections,
    check_axis_order,
    open_array,
    read_whole,
    write_array,
)

ANISOTROPIC_NM = (40.0, 4.0, 4.0)


def lazy(array: np.ndarray) -> Sections:
    return LazySections(array.shape, array.dtype, lambda z, *crop: array[z, *crop])


def test_uint8_stays_what_it_is():
    image = np.zeros((1, 2, 2), np.uint8)
    assert as_uint8_image(image, 'a') is image
    assert as_uint8_sections(image, 'a') is image


def test_images_become_8_bit_without_losing_contrast():
    twelve_bit = np.array([[[1000, 1010, 3040]]], np.uint16)
    np.testing.assert_array_equal(as_uint8_image(twelve_bit, 'a'), [[[0, 1, 255]]])
    np.testing.assert_array_equal(as_uint8_image(np.full((1, 2, 2), 7, np.uint16), 'a'), 0)
    np.testing.assert_array_equal(as_uint8_image(np.zeros((1, 2, 2), np.uint16), 'a'), 0)
    for dtype in (np.float16, np.float32, np.float64):
        floats = np.array([[[0, 0.5, 1]]], dtype)
        np.testing.assert_array_equal(as_uint8_image(floats, 'a'), [[[0, 128, 255]]])


def test_a_hot_pixel_and_padding_do_not_darken_the_image():
    image = np.random.default_rng(0).integers(1000, 2001, (4, 50, 60)).astype(np.uint16)
    image[2, 3, 4] = 65535
    image[0] = 0
    tissue = as_uint8_image(image, 'a')[1:]
    # 0.1 % is clipped at each end of the thousand values.
    np.testing.assert_allclose(tissue, np.clip((image[1:] - 1000.0) * 0.255, 0, 255), atol=1)
    assert as_uint8_image(image, 'a')[2, 3, 4] == 255
    assert not as_uint8_image(image, 'a')[0].any()


@pytest.mark.parametrize('value', [0, 900, 65535])
def test_constant_borders_change_no_grey_value(value: int):
    image = np.random.default_rng(0).integers(1000, 2001, (4, 50, 60)).astype(np.uint16)
    for margin in (1, 4, 20):
        sides = (0, 0), (margin, margin), (margin, margin)
        padded = np.pad(image, sides, constant_values=value)
        inner = as_uint8_image(padded, 'a')[:, margin:-margin, margin:-margin]
        np.testing.assert_array_equal(inner, as_uint8_image(image, 'a'))


@pytest.mark.parametrize('dtype', [np.uint16, np.float32])
def test_crops_are_converted_as_the_whole_is(dtype: type):
    image = np.random.default_rng(0).random((4, 30, 40))
    image = (image * 9000).astype(dtype) if dtype is np.uint16 else image.astype(dtype)
    whole = as_uint8_image(image, 'a')
    sections = as_uint8_sections(lazy(image), 'a')
    assert sections.shape == image.shape and sections.dtype == np.uint8
    np.testing.assert_array_equal(read_whole(sections), whole)
    np.testing.assert_array_equal(sections[2, 3:9, 30:], whole[2, 3:9, 30:])
    assert sections[2].dtype == np.uint8


@pytest.mark.slow
def test_a_large_volume_is_stretched_by_a_sample_of_all_of_it():
    # Brighter from section to section and from column to column; 16 GB if it were in memory.
    shape, read = (2000, 2000, 2000), []

    def ramp(z: int, rows: slice, columns: slice) -> np.ndarray:
        crop = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.uint16)
        crop[:] = 20_000 + 5 * z + np.arange(columns.start, columns.stop)
        crop[::7] += 1  # columns of one value would be padding
        read.append(crop.size)
        return crop

    sections = as_uint8_sections(LazySections(shape, np.uint16, ramp), 'a')
    assert sum(read) == 256 * 256**2
    first, last = sections[0, 0:9, 0:9], sections[1999, 1990:, 1990:]
    assert first.max() < 5 and last.min() > 250
    again = as_uint8_sections(LazySections(shape, np.uint16, ramp), 'a')
    np.testing.assert_array_equal(again[1234, 7:9, :], sections[1234, 7:9, :])


def test_a_stored_image_is_converted_when_it_is_read(tmp_path: Path):
    image = np.random.default_rng(0).integers(900, 3000, (5, 20, 30)).astype('>u2')
    write_array(tmp_path / 'a.n5', image)
    sections = as_uint8_sections(open_array(tmp_path / 'a.n5'), 'a.n5')
    np.testing.assert_array_equal(read_whole(sections), as_uint8_image(image, 'a'))


def test_sections_with_nan_or_infinity_are_named():
    image = np.zeros((30, 4, 4), np.float32)
    image[3, 1, 1] = np.nan
    image[17, 0, 0] = np.inf
    with pytest.raises(InputError, match=r'scan\.tif .* sections 3, 17 '):
        as_uint8_image(image, 'scan.tif')
    sections = as_uint8_sections(lazy(image), 'scan.tif')
    assert not sections[3, 2:, :].any()
    for key in (3, (17, slice(0, 1), slice(0, 1))):
        with pytest.raises(InputError, match=r'scan\.tif holds NaN or infinity in section '):
            sections[key]


@pytest.mark.parametrize('value', [1.5, -0.1])
def test_floats_outside_0_to_1_are_refused(value: float):
    image = np.full((2, 2, 2), value)
    with pytest.raises(InputError, match='found values from'):
        as_uint8_image(image, 'scan.tif')
    with pytest.raises(InputError, match='found values from .* in section 1'):
        as_uint8_sections(lazy(image), 'scan.tif')[1]


@pytest.mark.parametrize('dtype', [np.int16, np.uint32, bool, np.complex64])
def test_other_image_types_are_refused(dtype: type):
    image = np.zeros((1, 2, 2), dtype)
    for convert in (as_uint8_image, as_uint8_sections):
        with pytest.raises(InputError, match=np.dtype(dtype).name):
            convert(image, 'scan.tif')


@pytest.mark.parametrize(
    ('shape', 'resolution_nm'),
    [
        ((1250, 1250, 125), ANISOTROPIC_NM),
        ((1250, 1250, 125), (4.0, 4.0, 40.0)),  # turned round as well
        ((1024, 768, 100), (30.0, 6.0, 6.0)),
        ((768, 1024, 100), (30.0, 6.0, 6.0)),
        ((512, 512, 30), (50.0, 4.0, 4.0)),
    ],
)
def test_a_column_of_thick_sections_is_refused(
    shape: tuple[int, int, int], resolution_nm: tuple[float, float, float]
):
    with pytest.raises(InputError, match=r'a\.h5 in the order \[z, y, x\], .* Turn the axes'):
        check_axis_order(shape, resolution_nm, 'a.h5')


@pytest.mark.parametrize(
    ('shape', 'resolution_nm', 'message'),
    [
        ((1250, 1250, 125), (8.0, 8.0, 8.0), 'if it was saved as'),  # FIB-SEM
        ((1250, 1250, 125), None, 'if it was saved as'),
        ((200, 2000, 48), ANISOTROPIC_NM, 'if it was saved as'),  # a strip
        ((125, 1250, 1250), (4.0, 4.0, 40.0), 'if it was given as'),
        ((125, 1250, 1250), ANISOTROPIC_NM, ''),
        ((125, 1250, 1250), None, ''),
        ((100, 48, 48), ANISOTROPIC_NM, ''),
        ((2000, 400, 600), ANISOTROPIC_NM, ''),
        ((200, 1250, 100), ANISOTROPIC_NM, ''),
        ((1250, 125, 1250), ANISOTROPIC_NM, ''),  # how a real column gets through
        ((1, 1, 1), None, ''),
    ],
)
def test_usable_volumes_pass_with_a_warning_where_they_are_suspicious(
    shape: tuple[int, int, int],
    resolution_nm: tuple[float, float, float] | None,
    message: str,
    caplog: pytest.LogCaptureFixture,
):
    check_axis_order(shape, resolution_nm, 'a.h5')
    warnings = caplog.messages
    assert len(warnings) == bool(message)
    assert all('a.h5' in warning and message in warning for warning in warnings)


def test_tissue_between_the_blocks_that_are_looked_at_is_found():
    image = np.zeros((2, 4096, 4096), np.uint16)
    tissue = np.random.default_rng(0).integers(900, 3000, (2, 980, 980))
    image[:, 1560:2540, 1560:2540] = tissue
    found = as_uint8_sections(image, 'a')[0, 1560:2540, 1560:2540]
    alone = as_uint8_sections(tissue.astype(np.uint16), 'a')[0, :, :]
    assert np.unique(found).size == 256
    np.testing.assert_array_equal(found, alone)
