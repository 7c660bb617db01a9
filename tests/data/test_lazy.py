"""Stacks derived from others, against whole arrays computed at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from taclnet_jax.data.cache import SectionCache
from taclnet_jax.data.labels import membranes_from_ids, unlabelled_far_from_ids
from taclnet_jax.data.resolution import halved
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import LazySections, only_sections, read_whole, section_shape
from taclnet_jax.volumes.sections import concatenated, mapped

RNG = np.random.default_rng(0)
IDS = np.kron(RNG.integers(0, 5, (3, 6, 7)), np.ones((1, 5, 4), int)).astype(np.uint32)
CROPS = st.tuples(st.integers(0, 29), st.integers(1, 30), st.integers(0, 27), st.integers(1, 28))


def lazy(array: np.ndarray) -> LazySections:
    return LazySections(array.shape, array.dtype, lambda z, rows, columns: array[z, rows, columns])


def membranes(ids: np.ndarray, dilation: int) -> np.ndarray:
    """Pixel by pixel."""
    touching = np.zeros(ids.shape, bool)
    for z, y, x in np.ndindex(ids.shape):
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            if 0 <= y + dy < ids.shape[1] and 0 <= x + dx < ids.shape[2]:
                a, b = ids[z, y, x], ids[z, y + dy, x + dx]
                touching[z, y, x] |= a != b and a > 0 and b > 0
    for _ in range(dilation):
        cross = ndimage.generate_binary_structure(2, 1)[None]
        touching = ndimage.binary_dilation(touching, cross)
    return touching | (ids == 0)


@pytest.mark.parametrize('dilation', [0, 1, 3])
def test_membranes_lie_where_cells_meet_and_where_there_is_none(dilation: int):
    np.testing.assert_array_equal(
        read_whole(membranes_from_ids(IDS, dilation)), membranes(IDS, dilation)
    )


@settings(max_examples=40, deadline=None)
@given(CROPS, st.integers(0, 2))
def test_a_crop_of_membranes_is_the_crop_of_the_whole(crop: tuple[int, ...], dilation: int):
    y, height, x, width = crop
    found = membranes_from_ids(lazy(IDS), dilation)[1, slice(y, y + height), slice(x, x + width)]
    np.testing.assert_array_equal(
        found, membranes(IDS[1:2], dilation)[0, y : y + height, x : x + width]
    )


@settings(max_examples=40, deadline=None)
@given(CROPS, st.sampled_from([1, 2.5, 8]))
def test_what_is_far_from_every_id_is_unlabelled(crop: tuple[int, ...], beyond: float):
    y, height, x, width = crop
    ids = np.zeros((1, 30, 28), np.uint8)
    ids[0, 4, 5], ids[0, 20:24, 15] = 1, 2
    yy, xx = np.mgrid[:30, :28]
    at = np.argwhere(ids[0] > 0)
    centres = np.argwhere(np.min([np.hypot(yy - a, xx - b) for a, b in at], axis=0) > beyond)
    far = np.any([np.hypot(yy - a, xx - b) <= beyond for a, b in centres], axis=0)
    found = unlabelled_far_from_ids(ids, beyond)[0, slice(y, y + height), slice(x, x + width)]
    np.testing.assert_array_equal(found, far[y : y + height, x : x + width])


def test_half_resolution_by_hand():
    image = np.array([[[0, 1, 10, 20, 9], [2, 3, 30, 41, 9], [9, 9, 9, 9, 9]]], np.uint8)
    membrane = np.array([[[1, 0, 1, 0, 1], [0, 0, 0, 1, 1], [1, 1, 1, 1, 1]]], bool)
    ids = np.array([[[0, 7, 0, 0, 1], [0, 0, 5, 9, 1], [1, 1, 1, 1, 1]]], np.uint16)
    ignore = np.array([[[0, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]], bool)
    volume = Volume('v', image, membrane, ids, (50, 4, 4), ignore)
    half = halved(volume)
    assert half.image.tolist() == [[[2, 25]]] and half.image.dtype == np.uint8
    assert half.membrane.tolist() == [[[0.25, 0.5]]] and half.membrane.dtype == np.float32
    assert half.ids.tolist() == [[[7, 9]]] and half.ids.dtype == np.uint16
    assert half.ignore.tolist() == [[[False, True]]]
    assert half.resolution_nm == (50, 8, 8)


def test_half_resolution_of_what_is_not_in_memory_reads_crops():
    image = RNG.integers(0, 256, (3, 21, 18)).astype(np.uint8)
    volume = Volume('v', lazy(image), None, None, (50, 4, 4))
    whole = halved(Volume('v', image, None, None, (50, 4, 4))).image
    half = halved(volume).image
    assert half.shape == (3, 10, 9)
    np.testing.assert_array_equal(half[2, 3:8, 1:9], whole[2, 3:8, 1:9])
    np.testing.assert_array_equal(read_whole(half), whole)


def test_a_closed_membrane_of_two_pixels_stays_closed():
    membrane = np.zeros((1, 40, 40), bool)
    yy, xx = np.mgrid[:40, :40]
    membrane[0] = abs(np.hypot(yy - 19.3, xx - 20.1) - 12) < 1.2
    assert ndimage.label(~membrane[0])[1] == 2
    volume = Volume('v', membrane.astype(np.uint8), membrane, None, (1, 1, 1))
    assert ndimage.label(read_whole(halved(volume).membrane)[0] < 0.5)[1] == 2


def test_stacks_end_to_end():
    parts = [RNG.integers(0, 9, (n, 4, 5)) for n in (2, 1, 3)]
    whole = concatenated([lazy(part) for part in parts])
    np.testing.assert_array_equal(read_whole(whole), np.concatenate(parts))
    np.testing.assert_array_equal(whole[2, 1:3, 2:], parts[1][0, 1:3, 2:])


def test_stacks_end_to_end_keep_their_sizes():
    parts = [RNG.integers(0, 9, shape) for shape in ((2, 4, 5), (1, 3, 6), (2, 4, 5))]
    whole = concatenated([concatenated([lazy(part) for part in parts[:2]]), parts[2]])
    assert whole.shape == (5, 4, 6)
    for z, expected in enumerate(section for part in parts for section in part):
        assert section_shape(whole, z) == expected.shape
        np.testing.assert_array_equal(whole[z], expected)
        np.testing.assert_array_equal(whole[z, 1:4, 4:9], expected[1:4, 4:9])
        np.testing.assert_array_equal(whole[z, ::-2, :], expected[::-2])
    for kept in (only_sections(whole, 1, 4), SectionCache(1).of(whole), mapped(whole, int, abs)):
        offset = 1 if kept.shape[0] == 3 else 0
        assert [kept[z].shape for z in range(3)] == [whole[z + offset].shape for z in range(3)]


def test_the_cache_reads_a_section_once_and_keeps_within_its_memory():
    read: list[int] = []

    def slow(z: int, rows: slice, columns: slice) -> np.ndarray:
        read.append(z)
        return np.full((100, 100), z, np.uint8)[rows, columns]

    cached = SectionCache(0.025).of(LazySections((9, 100, 100), np.uint8, slow))  # two sections
    for z in (0, 1, 0, 1, 0):
        assert (cached[z, 3:5, 4:9] == np.full((2, 5), z)).all()
    assert read == [0, 1]
    assert cached[2].shape == (100, 100) and cached[0].max() == 0
    assert read == [0, 1, 2]
    assert cached[1].max() == 1 and read == [0, 1, 2, 1]


@pytest.mark.parametrize(
    'stack', [SectionCache(1).of(IDS), lazy(IDS), concatenated([IDS[:1], IDS[1:]])]
)
@pytest.mark.parametrize('key', [1, (1, slice(3, 20), slice(4, 9)), (1, slice(3, 20), slice(None))])
def test_who_changes_what_was_read_changes_nothing_for_the_next(stack: LazySections, key: Any):
    before = IDS.copy()
    for _ in range(2):
        read = stack[key]
        np.testing.assert_array_equal(read, before[key])
        read[:] += 1
    np.testing.assert_array_equal(IDS, before)


def test_sections_outside_the_stack_are_refused():
    with pytest.raises(IndexError):
        lazy(IDS)[3]


@pytest.mark.parametrize('in_memory', [True, False])
def test_some_sections_of_a_volume(in_memory: bool):
    image = RNG.integers(0, 256, (9, 6, 5)).astype(np.uint8)
    parts = (range(0, 3), range(3, 7), range(7, 9))
    stored = image if in_memory else lazy(image)
    volume = Volume('v', stored, image > 99, None, (50, 4, 4), parts=parts)
    some = volume.only(2, 7)
    assert some.parts == (range(0, 1), range(1, 5)) and some.shape == (5, 6, 5)
    np.testing.assert_array_equal(read_whole(some.image), image[2:7])
    np.testing.assert_array_equal(some.image[3, 1:4, 2:], image[5, 1:4, 2:])
    np.testing.assert_array_equal(some.membrane, image[2:7] > 99)
    for first, stop in ((3, 3), (-1, 4), (0, 10)):
        with pytest.raises(InputError, match='from 0 to 9'):
            volume.only(first, stop)
