"""Several volumes of one's own, and labels of parts of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import arguments, run, small_settings

from taclnet_jax.config.data import AugmentSettings, CustomSettings, DataSettings, SamplingSettings
from taclnet_jax.data import load_volume, training_volume
from taclnet_jax.data.loader import WindowLoader
from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import grid_samples, labelled_samples, split_sections, targets_of
from taclnet_jax.errors import InputError
from taclnet_jax.inference import load as load_model
from taclnet_jax.inference import predict_sections
from taclnet_jax.training.setup import prepare
from taclnet_jax.volumes import section_shape, write_array

RESOLUTION = (40.0, 4.0, 4.0)
SIZES = ((12, 64, 56), (6, 40, 72))
TISSUE = [synthetic_volume(seed, shape) for seed, shape in enumerate(SIZES)]
IDS = [
    np.asarray(tissue.ids).astype(dtype) for tissue, dtype in zip(TISSUE, ('u2', 'u8'), strict=True)
]


def stored(folder: Path, **arrays: Any) -> dict[str, str]:
    """Paths by name, of arrays, or of arrays with their offset in voxels."""
    paths = {}
    for name, array in arrays.items():
        array, first = array if isinstance(array, tuple) else (array, None)
        offset_nm = None if first is None else tuple(np.multiply(first, RESOLUTION).tolist())
        paths[name] = str(folder / f'{name}.h5')
        write_array(paths[name], array, resolution_nm=RESOLUTION, offset_nm=offset_nm)
    return paths


def load(cache_mb: int = 100, **custom: Any) -> Volume:
    return load_volume(
        DataSettings(dataset='custom', cache_mb=cache_mb, custom=CustomSettings(**custom))
    )


def pair(folder: Path, **custom: Any) -> dict[str, Any]:
    """The settings of both volumes."""
    paths = stored(folder, a=TISSUE[0].image, b=TISSUE[1].image, c=IDS[0], d=IDS[1])
    return {'image': f'{paths["a"]}, {paths["b"]}', 'labels': f'{paths["c"]},{paths["d"]}'} | custom


@pytest.mark.parametrize('cache_mb', [100, 0])
@pytest.mark.parametrize('downsample', [1, 2])
def test_volumes_of_two_sizes_lie_end_to_end(tmp_path: Path, cache_mb: int, downsample: int):
    own = load(cache_mb, **pair(tmp_path))
    assert own.parts == (range(0, 12), range(12, 18)) and own.shape == (18, 64, 72)
    seen = training_volume(own, downsample)
    alone = [training_volume(tissue, downsample) for tissue in TISSUE]
    for z, (part, inside) in enumerate([(0, z) for z in range(12)] + [(1, z) for z in range(6)]):
        for stack, expected in ((seen.image, alone[part].image), (seen.ids, alone[part].ids)):
            np.testing.assert_array_equal(stack[z], expected[inside])
        assert section_shape(seen.image, z) == alone[part].shape[1:]
    some = own.only(10, 15)
    assert some.parts == (range(0, 2), range(2, 5)) and some.image[1].shape == (64, 56)
    np.testing.assert_array_equal(some.membrane[2], own.membrane[12])


def test_a_training_on_volumes_of_two_sizes_sees_each_as_alone(tmp_path: Path):
    volume = load(**pair(tmp_path))
    sampling = SamplingSettings(validation_sections=0)
    split = split_sections(volume, sampling)
    assert split.train == (range(0, 8), range(12, 16))
    assert split.test == (range(8, 12), range(16, 18))
    samples = grid_samples(volume, split.train, (36, 36))
    assert len(samples) == 8 * 4 + 4 * 4
    augment = AugmentSettings(symmetries=True, gamma=0.2, shift=True, misaligned=1.0)
    loader = WindowLoader(volume, samples, 3, 4, 0, augment)
    # The second volume alone, of which samples have the same generators and other numbers.
    other = load(image=str(tmp_path / 'b.h5'), labels=str(tmp_path / 'd.h5'))
    alone = WindowLoader(other, grid_samples(other, [range(4)], (36, 36)), 3, 4, 0, augment)
    for number in range(16):
        windows = [
            a.window(np.random.default_rng(number), n, displace=True)
            for a, n in ((loader, 32 + number), (alone, number))
        ]
        for name in ('image', 'membrane', 'valid'):
            np.testing.assert_array_equal(windows[0][name], windows[1][name])


def test_a_whole_volume_is_kept_for_the_test_in_every_fold(tmp_path: Path):
    volume = load(**pair(tmp_path, test_volumes=(1,)))
    split = split_sections(volume, SamplingSettings(fold=0, validation_sections=3))
    assert split == ((range(0, 9),), (range(9, 12),), (range(12, 18),))
    split = split_sections(volume, SamplingSettings(fold=1, validation_sections=0))
    assert split == ((range(4, 12),), (), (range(0, 4), range(12, 18)))
    assert volume.only(3, 14).held_out == (range(9, 11),)


BOX = (2, 7, 10, 50, 4, 44)
PART = (slice(2, 7), slice(10, 50), slice(4, 44))


def boxed(folder: Path, way: str) -> dict[str, Any]:
    """Settings that all label the same box of the first volume."""
    image = TISSUE[0].image, (5, 100, 0)
    whole = IDS[0].copy()
    if way == 'offset':
        paths = stored(folder, image=image, labels=(IDS[0][PART], (7, 110, 4)))
        return paths
    if way == 'place':
        return stored(folder, image=image, labels=IDS[0][PART]) | {'boxes': BOX}
    outside = np.ones(whole.shape, bool)
    outside[PART] = False
    whole[outside] = 60000 if way == 'rubbish' else 0
    return stored(folder, image=image, labels=whole) | {'boxes': (BOX,)}


def test_shifted_crops_stay_on_a_small_box() -> None:
    ignore = np.ones(SIZES[0], bool)
    ignore[2:7, 0:6, 4:9] = False
    volume = dataclasses.replace(TISSUE[0], boxes=((2, 7, 0, 6, 4, 9),), ignore=ignore)
    samples = grid_samples(volume, [range(12)], (24, 24))
    assert len(samples) == 5  # one a section, at its border
    loader = WindowLoader(volume, samples, 3, 4, 0, AugmentSettings(shift=True))
    windows = [
        loader.window(np.random.default_rng(number), number % 5, displace=True)['valid'][1]
        for number in range(40)
    ]
    assert all(valid.any() for valid in windows)
    assert len({valid.tobytes() for valid in windows}) > 10  # they move all the same


@pytest.mark.parametrize('cache_mb', [100, 0])
@pytest.mark.parametrize('way', ['offset', 'place', 'zeros', 'rubbish'])
def test_outside_a_box_nothing_is_labelled(tmp_path: Path, way: str, cache_mb: int):
    volume = load(cache_mb, **boxed(tmp_path, way))
    assert volume.boxes == (BOX,) and volume.shape == SIZES[0]
    expected = np.ones(volume.shape, bool)
    expected[PART] = False
    for z in range(12):
        np.testing.assert_array_equal(volume.ignore[z], expected[z])
        np.testing.assert_array_equal(volume.image[z], TISSUE[0].image[z])
        np.testing.assert_array_equal(volume.ids[z], np.where(expected[z], 0, IDS[0][z]))
    assert volume.labelled(range(12)) == [2, 3, 4, 5, 6]
    # Membranes within the box are those of it alone: no border is drawn around it.
    cut = load(image=str(tmp_path / 'image.h5'), **stored(tmp_path, labels=(IDS[0], (5, 100, 0))))
    inner = (slice(10, 50), slice(4, 44))
    for z in range(2, 7):
        np.testing.assert_array_equal(volume.membrane[z][inner], cut.membrane[z][inner])


@pytest.mark.parametrize('downsample', [1, 2])
def test_crops_lie_in_boxes_and_around_small_ones(tmp_path: Path, downsample: int):
    paths = stored(tmp_path, image=TISSUE[0].image, labels=IDS[0])
    boxes = ((1, 4, 0, 64, 0, 56), (6, 8, 4, 44, 20, 32), (8, 9, 0, 6, 50, 56))
    volume = training_volume(load(boxes=boxes, **paths), downsample)
    crop = (24 // downsample, 24 // downsample)
    samples = grid_samples(volume, volume.parts, crop)
    corners = np.stack([samples.section, samples.y * downsample, samples.x * downsample], 1)
    assert set(corners[samples.section < 5, 0]) == {1, 2, 3}
    assert (samples.section < 5).sum() == 3 * 9
    assert corners[samples.section > 5].tolist() == [
        *([z, y, 14] for z in (6, 7) for y in (4, 20)),
        [8, 0, 32],
    ]
    assert len(labelled_samples(volume, samples)) == len(samples)
    assert len(grid_samples(volume, volume.parts, crop, limit=10)) == 10


def test_folds_are_thirds_of_labelled_sections(tmp_path: Path):
    paths = stored(tmp_path, image=TISSUE[0].image, labels=IDS[0])
    volume = load(boxes=((1, 2), (4, 5), (9, 11)), **paths)
    sampling = SamplingSettings(validation_sections=1)
    assert split_sections(volume, sampling) == ((range(0, 3),), (range(3, 7),), (range(7, 12),))
    assert targets_of([range(7, 12)], 0, volume.labelled) == [(9, range(7, 12)), (10, range(7, 12))]
    with pytest.raises(InputError, match='last of the 2 labelled sections'):
        split_sections(volume, dataclasses.replace(sampling, validation_sections=2))
    two = load(boxes=((1, 2), (4, 5)), **paths)
    with pytest.raises(InputError, match='2 sections cannot be split.*config.fold=0'):
        split_sections(two, sampling)


def test_validation_takes_whole_stretches_where_few_sections_are_labelled(tmp_path: Path):
    volume = load(**pair(tmp_path, boxes=((0, 2, 3), (0, 9, 10), (1, 4, 5))))
    sampling = SamplingSettings(fold=0, validation_sections=2)
    assert split_sections(volume, sampling) == ((range(0, 6),), (range(6, 12), range(12, 18)), ())


def test_a_single_labelled_section_trains(tmp_path: Path):
    custom = boxed(tmp_path, 'zeros') | {'boxes': (5, 6)}
    changes = {f'custom__{name}': value for name, value in custom.items()}
    settings = small_settings(dataset='custom', fold=0, validation_sections=0, **changes)
    training = prepare(settings)
    assert set(training.loader.samples.section.tolist()) == {5}
    batch = training.loader.batch(0, 0)
    target = settings.sampling.slices // 2
    assert batch['valid'][:, target].any() and not np.delete(batch['valid'], target, 1).any()


def test_labels_of_several_boxes_lie_in_one_image(tmp_path: Path):
    image = TISSUE[0].image
    parts = {'one': (IDS[0][1:3, :30], (1, 0, 0)), 'two': (IDS[0][6:, 20:, 30:], (6, 20, 30))}
    paths = stored(tmp_path, image=(image, (0, 0, 0)), **parts)
    custom = {'image': paths['image'], 'labels': f'{paths["one"]},{paths["two"]}'}
    volume = load(**custom)
    assert volume.boxes == ((1, 3, 0, 30, 0, 56), (6, 12, 20, 64, 30, 56))
    labelled = np.zeros(volume.shape, bool)
    labelled[1:3, :30] = labelled[6:, 20:, 30:] = True
    np.testing.assert_array_equal(volume.ignore, ~labelled)
    np.testing.assert_array_equal(volume.ids, np.where(labelled, IDS[0], 0))
    assert len(volume.parts) == 1
    mask = np.zeros(image.shape, np.uint8)
    mask[7] = 1
    ignored = load(ignore=stored(tmp_path, mask=mask)['mask'], **custom)
    np.testing.assert_array_equal(ignored.ignore, ~labelled | (mask > 0))


WHOLE = {'image': TISSUE[0].image, 'labels': IDS[0]}


@pytest.mark.parametrize(
    ('arrays', 'change', 'message'),
    [
        (WHOLE, {'boxes': ((3, 13),)}, r'boxes of labels inside the image.*found \(3, 13\)'),
        (WHOLE, {'boxes': (4, 4)}, 'each end above its start'),
        (WHOLE, {'boxes': ((1, 2, 3),)}, r'as \(z0, z1\) or .*found \(1, 2, 3\)'),
        (WHOLE, {'boxes': (((1, 2),),)}, 'config.custom.boxes to be'),
        (WHOLE, {'test_volumes': (0,)}, 'some, and not all, of the numbers from 0 to 0'),
        (WHOLE, {'image': 'x.tif,'}, 'paths between the commas'),
        (WHOLE, {'image_dataset': 'a,b'}, r'image_dataset, or as many as in .*image, 1, .*found 2'),
        (WHOLE | {'image': (TISSUE[0].image, (0, 0, 0)), 'labels': (IDS[0][:, :50], (0, 20, 0))},
         {}, r'inside the image, .*found \(0, 12, 20, 70, 0, 56\)'),
        (WHOLE | {'labels': (IDS[0][:, :50], (0, 2.5, 0))}, {}, r'whole voxel.*2\.5'),
        (WHOLE | {'labels': (IDS[0][:, :50], (0, 2, 0))}, {'boxes': ((0, 12),)},
         r'boxes inside the labels.*\(0, 12, 2, 52, 0, 56\).*found \(0, 12, 0, 64, 0, 56\)'),
        (WHOLE | {'labels': IDS[0][:, :50]}, {}, 'one size.*offset in its metadata or by a box'),
    ],
)  # fmt: skip
def test_boxes_that_cannot_be(tmp_path: Path, arrays: Any, change: dict, message: str):
    with pytest.raises(InputError, match=message):
        load(**stored(tmp_path, **arrays) | change)


def test_volumes_that_do_not_go_together(tmp_path: Path):
    custom = pair(tmp_path)
    with pytest.raises(InputError, match='a volume .0 to 1., then'):
        load(**custom | {'boxes': ((1, 2),)})
    with pytest.raises(InputError, match=r'a volume .0 to 1., then.*found \(\)'):
        load(**custom | {'boxes': ((),)})
    with pytest.raises(InputError, match=r'or as many as in config.custom.labels, 3.*found 2'):
        load(**custom | {'labels': 'x.tif,y.tif,z.tif'})
    write_array(tmp_path / 'b.h5', TISSUE[1].image, resolution_nm=(40, 4.5, 4.5))
    write_array(tmp_path / 'd.h5', IDS[1], resolution_nm=(40, 4.5, 4.5))
    with pytest.raises(InputError, match=r'one voxel size.*4\.0, 4\.0.*4\.5, 4\.5'):
        load(**custom)
    assert load(**custom | {'resolution_nm': RESOLUTION}).resolution_nm == RESOLUTION
    write_array(tmp_path / 'd.h5', (IDS[1] > 0).astype(np.uint8), resolution_nm=(40, 4.5, 4.5))
    with pytest.raises(InputError, match=r'instance ids.*d\.h5'):
        load(**custom)
    paths = stored(tmp_path, image=TISSUE[0].image, one=IDS[0], two=IDS[0])
    with pytest.raises(InputError, match=r'labels of .* that lie apart; .*two\.h5'):
        load(image=paths['image'], labels=f'{paths["one"]},{paths["two"]}')


@pytest.mark.slow
@pytest.mark.usefixtures('plain_pictures')
def test_a_run_on_two_volumes_one_of_them_sparse(tmp_path: Path):
    custom = pair(tmp_path, boxes=((0, 0, 6), (0, 9, 11, 8, 40, 8, 40), (1, 0, 6)))
    changes = {f'custom__{name}': value for name, value in custom.items()}
    status, output = run(
        *arguments(
            tmp_path / 'run',
            dataset='custom',
            batch_size=2,
            custom__test_volumes=(1,),
            fold=0,
            validation_sections=2,
            evaluate__threshold_from='validation',
            **changes,
        )
    )
    assert status == 0, output
    results = json.loads((tmp_path / 'run' / 'results.json').read_text())
    assert results['sections'] == [*range(12, 18)] and results['fold'] == 0
    assert all(0 <= entry['ari'] <= 1 for entry in results['P']['per_section'])
    # What is predicted of a section does not depend on the other volume.
    model = load_model(tmp_path / 'run')
    predicted = [
        predict_sections(model.inference, model.variables, volume.image, targets)
        for volume, targets in (
            (load(**custom), [(14, range(12, 18))]),
            (TISSUE[1], [(2, range(6))]),
        )
    ]
    for one, other in zip(*predicted, strict=True):
        for map_, alone in zip(one[1:], other[1:], strict=True):
            np.testing.assert_array_equal(map_, alone)
