"""The synthetic volume: exact labels, drift, gaps, and the same voxels everywhere."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from scipy import ndimage

from taclnet_jax.data import synthetic
from taclnet_jax.data.synthetic import SyntheticTissue, synthetic_volume
from taclnet_jax.data.volume import Volume


@pytest.fixture(scope='module')
def volume() -> Volume:
    return synthetic_volume(seed=4, shape=(9, 224, 200))


def test_types_and_shapes(volume: Volume):
    assert volume.shape == (9, 224, 200)
    assert volume.image.dtype == np.uint8
    assert volume.resolution_nm == (40, 4, 4)
    np.testing.assert_array_equal(volume.membrane, volume.ids == 0)


def touching(ids: np.ndarray) -> int:
    """Pairs of pixels, of the eight neighbours, that hold two different ids."""
    count = 0
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        a = ids[:, : ids.shape[1] - dy, max(0, -dx) : ids.shape[2] - max(0, dx)]
        b = ids[:, dy:, max(0, dx) : ids.shape[2] + min(0, dx)]
        count += int(((a != b) & (a > 0) & (b > 0)).sum())
    return count


def test_membranes_separate_all_ids(volume: Volume):
    assert touching(np.array([[[1, 1], [0, 2]]])) == 2
    assert touching(volume.ids) == 0


@pytest.mark.parametrize('seed', range(3))
def test_membranes_that_the_frame_cuts_small_still_separate(seed: int):
    ids = synthetic_volume(seed, shape=(2, 4, 150)).ids
    assert touching(ids) == 0 and len(np.unique(ids)) > 2


def test_each_segment_has_one_id_and_a_size_worth_segmenting(volume: Volume):
    for ids in volume.ids:
        segments, count = ndimage.label(ids > 0)
        assert 15 < count < 80
        for segment in range(1, count + 1):
            inside = ids[segments == segment]
            assert len(np.unique(inside)) == 1
            assert len(inside) >= 49  # 28 nm squared
        # Cells hang together in a section, a few that are pinched off aside.
        assert count <= 1.2 * (len(np.unique(ids)) - 1)


def test_no_small_specks_of_membrane(volume: Volume):
    for membrane in volume.membrane:
        components, _ = ndimage.label(membrane, np.ones((3, 3)))
        assert np.bincount(components.ravel())[1:].min() >= 100  # 40 nm squared


def test_membranes_drift_from_section_to_section(volume: Volume):
    def overlap(distance: int) -> float:
        a, b = volume.membrane[:-distance], volume.membrane[distance:]
        return 2 * (a & b).sum() / (a.sum() + b.sum())

    chance = volume.membrane.mean()
    assert 0.9 > overlap(1) > overlap(2) > overlap(4) > overlap(8)
    assert overlap(1) > 0.5 and overlap(8) < chance + 0.25
    # A cell stays where it was: most of its next section lies within it.
    same = (volume.ids[1:] == volume.ids[:-1]) & (volume.ids[1:] > 0)
    assert same.sum() / (volume.ids[1:] > 0).sum() > 0.75


def test_the_image_shows_membranes_dark_but_not_all_of_them(volume: Volume):
    image = ndimage.gaussian_filter(volume.image.astype(float), (0, 1, 1))
    dark, bright = image[volume.membrane], image[~volume.membrane]
    assert dark.mean() < bright.mean() - 30
    # Grey values alone tell much, but neither all (organelles, gaps) nor little.
    threshold = (dark.mean() + bright.mean()) / 2
    assert 0.65 < (dark < threshold).mean() < 0.95
    assert 0.65 < (bright > threshold).mean() < 0.95
    # Where the image has a gap, a cut at a fixed grey value merges cells that the labels separate.
    merged = 0
    for section, ids in zip(image, volume.ids, strict=True):
        segments, count = ndimage.label(section > threshold)
        merged += sum(
            np.sum(np.unique(ids[segments == s], return_counts=True)[1][1:] > 40) > 1
            for s in range(1, count + 1)
        )
    assert merged > len(image)


def test_sections_differ_in_brightness_and_contrast():
    image = synthetic_volume(seed=1, shape=(8, 64, 64)).image
    assert np.ptp(image.mean(axis=(1, 2))) > 5
    assert np.ptp(image.std(axis=(1, 2))) > 3


def test_a_seed_gives_the_same_voxels_on_any_machine():
    volume = synthetic_volume(seed=7, shape=(3, 60, 75))
    assert zlib.crc32(volume.image.tobytes()) == 4132344678
    assert zlib.crc32(volume.ids.astype('<u4').tobytes()) == 2155699409
    assert (synthetic_volume(seed=8, shape=(3, 60, 75)).image != volume.image).mean() > 0.9


def test_sections_can_be_made_in_any_order(volume: Volume):
    tissue = SyntheticTissue(4, (224, 200), (40, 4, 4))
    for z in (6, 2):
        image, ids = tissue.section(z)
        np.testing.assert_array_equal(image, volume.image[z])
        np.testing.assert_array_equal(ids, volume.ids[z])


def test_leaving_out_far_cells_changes_nothing():
    rng = np.random.default_rng(0)
    centre = rng.uniform(-500, 1500, (300, 2)).astype(np.float32)
    size = rng.uniform(0.3, 1.5, 300).astype(np.float32)
    y, x = np.meshgrid(np.arange(0, 160, 4.0), np.arange(600, 900, 4.0), indexing='ij')
    y += rng.uniform(-3, 3, y.shape)
    cell, gap = synthetic._nearest_two(y.astype(np.float32), x.astype(np.float32), centre, size)
    distance = np.hypot(y[..., None] - centre[:, 0], x[..., None] - centre[:, 1]) / size
    np.testing.assert_array_equal(cell, distance.argmin(-1))
    distance.sort(axis=-1)
    np.testing.assert_allclose(gap, distance[..., 1] - distance[..., 0], atol=1e-3)


@pytest.mark.parametrize('shape', [(1, 1, 1), (2, 1, 70), (1, 131, 3), (2, 65, 67)])
def test_any_size_works(shape: tuple[int, int, int]):
    assert synthetic_volume(seed=0, shape=shape).shape == shape


def test_a_frame_too_small_for_a_cell_is_all_membrane():
    volume = synthetic_volume(seed=0, shape=(2, 6, 6))  # a segment has 49 pixels or more
    assert volume.membrane is not None and volume.membrane.all()


def test_sizes_follow_the_resolution():
    coarse = synthetic_volume(seed=2, shape=(1, 150, 150), resolution_nm=(30, 8, 8))
    fine = synthetic_volume(seed=2, shape=(1, 150, 150), resolution_nm=(30, 4, 4))
    assert len(np.unique(coarse.ids)) > 2 * len(np.unique(fine.ids))
