"""Your own volumes, from whatever files they are in."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from taclnet_jax.config.data import CustomSettings, DataSettings
from taclnet_jax.data.labels import unlabelled_far_from_ids
from taclnet_jax.data.own_files import File, OwnVolume, box_in, own_volumes
from taclnet_jax.data.own_labels import is_ignored, read_labels, without_unlabelled
from taclnet_jax.data.volume import OTHER_SIZE, SAME_SIZE, Volume, end_to_end
from taclnet_jax.errors import InputError, doubt
from taclnet_jax.volumes import (
    LazySections,
    Sections,
    StoredArray,
    as_uint8_sections,
    check_axis_order,
)
from taclnet_jax.volumes.sections import Box, Geometry, Triple, cropped, mapped, pasted

_ONE_NETWORK = 1.1
"""From so many times the voxel size on, two volumes are not for one training."""

_OFF_GRID = 0.05
"""Of a voxel: so far from a whole one an offset may lie, for it is rounded in some formats."""


def load(settings: DataSettings) -> Volume:
    """The volumes of `settings.custom`, read into memory if all fit in `settings.cache_mb`.

    Larger ones stay on disk, and crops are read as they are needed. Several are laid end to end,
    each a part with sections of its own size.

    Raises:
        InputError: files are missing or unfit, or do not belong together.
    """
    own = own_volumes(settings.custom)
    volumes = [_volume(settings, one) for one in own]
    sizes = {volume.name: volume.resolution_nm for volume in volumes}
    _check_voxel_size(sizes, settings.custom.resolution_nm, _ONE_NETWORK)
    size = sum(math.prod(s.shape) * s.dtype.itemsize for v in volumes for _, s in v.stacks())
    if size <= settings.cache_mb * 1e6:
        volumes = [volume.in_memory() for volume in volumes]
    volumes = [
        without_unlabelled(volume, one.labels[0][0].path)
        for volume, one in zip(volumes, own, strict=True)
    ]
    if len(volumes) == 1:
        return volumes[0]
    return end_to_end(settings.custom.image, volumes, settings.custom.test_volumes)


def _volume(settings: DataSettings, own: OwnVolume) -> Volume:
    """An image with all that is labelled in it, on disk."""
    custom = settings.custom
    image = own.image.open('image')
    opened = [labels.open('labels') for labels, _ in own.labels]
    sizes = {array.name: array.resolution_nm for array in (image, *opened)}
    resolution_nm = custom.resolution_nm or next(filter(None, sizes.values()), None)
    if not resolution_nm:
        raise InputError(
            f'{image.path} does not say its voxel size; set config.custom.resolution_nm to '
            '(z, y, x) in nm, for example --config.custom.resolution_nm="(40, 4, 4)".'
        )
    check_axis_order(image.shape, resolution_nm, image.path)
    given = [box_in(box, image.shape, image.path) for box in own.boxes]
    # Where a file does not say where its labels lie, the box of the same number does.
    places = given if len(given) == len(opened) else [None] * len(opened)
    regions = [
        _region(image, labels, 'labels', resolution_nm, place)
        for labels, place in zip(opened, places, strict=True)
    ]
    _check_voxel_size(sizes, custom.resolution_nm)
    _check_boxes(image, opened, regions, given)
    boxes = given or regions
    labels = _in_image(image, opened, regions, boxes)
    sections = sorted({z for first, stop, *_ in boxes for z in range(first, stop)})
    membrane, ids = read_labels(custom, labels, sections, settings.membrane_dilation_px)
    ignored = [mask for _, mask in own.labels if mask.path]
    far_masks: list[Sections] = []
    unscored = None
    if ids is not None and settings.unlabelled_beyond_px:
        far = unlabelled_far_from_ids(ids, settings.unlabelled_beyond_px)
        if settings.unlabelled_is_membrane:
            unscored = far
        else:
            far_masks = [far]
    volume = Volume(
        image.path,
        as_uint8_sections(image, image.path),
        membrane,
        ids,
        resolution_nm,
        _ignored(custom, image, labels, ids, ignored, resolution_nm, far_masks),
        unscored,
        gaps=tuple(sorted({*image.gaps, *labels.gaps})),
    )
    if boxes == [_whole(image)]:
        return volume

    def within(stack: Sections, outside: bool) -> Sections:
        return pasted(image.shape, bool, outside, [(stack, box) for box in boxes])

    return dataclasses.replace(
        volume,
        membrane=within(membrane, False),
        ignore=within(volume.ignore or pasted(image.shape, bool, False, ()), True),
        unscored=volume.unscored and within(volume.unscored, False),
        boxes=tuple(boxes),
    )


def _whole(array: Sections) -> Box:
    depth, height, width = array.shape
    return 0, depth, 0, height, 0, width


def _common(one: Box, other: Box) -> Box | None:
    """What two boxes share; None if nothing."""
    ends = [(max(one[i], other[i]), min(one[i + 1], other[i + 1])) for i in range(0, len(one), 2)]
    if any(first >= stop for first, stop in ends):
        return None
    (z0, z1), (y0, y1), (x0, x1) = ends
    return z0, z1, y0, y1, x0, x1


def _in_image(
    image: StoredArray, stored: Sequence[StoredArray], regions: Sequence[Box], boxes: Sequence[Box]
) -> StoredArray:
    """What is stored of regions of the image, as one stack of its size; 0 outside of the boxes."""
    first = stored[0]
    if [*boxes] == [_whole(image)]:
        return first
    dtype = np.result_type(*(array.dtype for array in stored))
    if dtype.kind == 'f' and all(array.dtype.kind != 'f' for array in stored):
        dtype = np.dtype(np.int64)  # ids beyond it are refused where they are read
    pieces = [
        # Of the stack of the image's size only the region is ever read.
        (cropped(array, [-start for start in region[::2]], image.shape), common)
        for array, region in zip(stored, regions, strict=True)
        for box in boxes
        if (common := _common(region, box))
    ]
    stack = pasted(image.shape, dtype, 0, pieces)
    return StoredArray(
        ', '.join(array.path for array in stored),
        first.dataset,
        image.shape,
        dtype,
        lambda z, *crop: stack[z, *crop],
        Geometry(),
        first.numbers if first.shape == image.shape else None,
    )


def _region(
    image: StoredArray, other: StoredArray, what: str, resolution_nm: Triple, place: Box | None
) -> Box:
    """Where an array lies in the image: all over it, or where its offset or `place` says.

    Raises:
        InputError: it lies nowhere in it voxel on voxel, or has other sections.
    """
    if image.shape == other.shape:
        _check_same_region(image, other, what, resolution_nm)
        return _whole(image)
    smaller = all(size <= full for size, full in zip(other.shape, image.shape, strict=True))
    if smaller and other.offset_nm is not None:
        exact = np.subtract(other.offset_nm, image.offset_nm or 0) / resolution_nm
        first = np.rint(exact).astype(int)
        if np.abs(exact - first).max() > _OFF_GRID:
            raise InputError(
                f'Expected the {what} {other.name} to begin at a whole voxel of the image; found '
                f'voxel {tuple(exact.round(2).tolist())} (z, y, x) by their offsets. Correct them, '
                'or resample one.'
            )
        ends = np.stack([first, first + other.shape], axis=1)
        return box_in(ends.ravel().tolist(), image.shape, other.name)
    if place and tuple(np.subtract(place[1::2], place[::2])) == other.shape:
        return place
    advice = 'Crop one.'
    if other.shape == image.shape[::-1]:
        advice = 'One of them is in the order [x, y, z]: turn it.'
    elif smaller:
        advice = (
            'Crop one; or, if only a part is labelled, say where it lies, by an offset in its '
            'metadata or by a box of this size in config.custom.boxes.'
        )
    raise InputError(
        f'Expected image and {what} of one size [z, y, x]; found {image.shape} in {image.path} '
        f'and {other.shape} in {other.path}. {advice}'
    )


def _check_same_region(
    image: StoredArray, other: StoredArray, what: str, resolution_nm: Triple
) -> None:
    """Refuses two arrays of other places or numbers of sections, and says where one is unknown."""
    if None not in (image.offset_nm, other.offset_nm) and not np.allclose(
        image.offset_nm or 0, other.offset_nm or 0, atol=0.5 * min(resolution_nm)
    ):
        raise InputError(
            f'Expected image and {what} of the same region; by their offsets the image begins at '
            f'{image.offset_nm} nm and the {what} at {other.offset_nm} nm (z, y, x). Crop one.'
        )
    known = image.offset_nm or other.offset_nm or ()
    if None in (image.offset_nm, other.offset_nm) and any(known):
        silent = image.path if image.offset_nm is None else other.path
        doubt(
            f'Of image and {what} one begins at {known} nm (z, y, x), and {silent} does not say '
            'where it begins. They are taken to begin at the same place.'
        )
    numbers = zip(image.numbers or (), other.numbers or (), strict=False)
    if unlike := next((pair for pair in numbers if pair[0] != pair[1]), None):
        raise InputError(
            f'Expected image and {what} of the same sections; by the names of their files section '
            f'{unlike[0]} in {image.path} would go with {unlike[1]} in {other.path}. Remove what '
            'has no partner, or number both alike.'
        )


def _check_boxes(
    image: StoredArray, opened: Sequence[StoredArray], regions: Sequence[Box], given: Sequence[Box]
) -> None:
    """Refuses labels that overlap, and boxes that do not lie in labels."""
    for (one, a), (other, b) in combinations(zip(opened, regions, strict=True), 2):
        if _common(a, b):
            raise InputError(
                f'Expected labels of {image.path} that lie apart; those in {one.name} at {a} and '
                f'those in {other.name} at {b} (z0, z1, y0, y1, x0, x1) overlap. Crop one.'
            )
    for box in given:
        if all(_common(box, region) != box for region in regions):
            raise InputError(
                f'Expected boxes inside the labels of {image.path}, which lie at '
                f'{" and ".join(map(str, regions))} (z0, z1, y0, y1, x0, x1); found {box}. Correct '
                'config.custom.boxes.'
            )


def _check_voxel_size(
    named: Mapping[str, Triple | None], given: Triple | tuple[()], refused: float = OTHER_SIZE
) -> None:
    """Says where files have other voxel sizes than each other or the settings."""
    sizes = {name: size for name, size in named.items() if size}
    if given:
        sizes['config.custom.resolution_nm'] = given
    ratios = np.divide(*(f([*sizes.values()], axis=0) for f in (np.max, np.min))) if sizes else 1
    if (ratio := np.max(ratios)) < SAME_SIZE:
        return
    found = ', '.join(f'{size} in {name}' for name, size in sizes.items())
    message = f'Expected one voxel size (z, y, x) in nm of image and labels; found {found}.'
    if ratio >= refused and not given:
        raise InputError(
            f'{message} Crop or resample one of them; or, if a file is wrong, set '
            'config.custom.resolution_nm to the right one.'
        )
    doubt(f'{message} {"Those of the settings are" if given else "That of the first is"} taken.')


def _ignored(
    custom: CustomSettings,
    image: StoredArray,
    labels: StoredArray,
    ids: Sections | None,
    ignored: Sequence[File],
    resolution_nm: Triple,
    others: Sequence[Sections],
) -> Sections | None:
    """Where nothing is labelled: by a mask, by certain ids, by other masks."""
    masks = [*others]
    for file in dict.fromkeys(ignored):
        stored = file.open('ignored regions')
        region = _region(image, stored, 'ignored regions', resolution_nm, None)

        def marked(x: np.ndarray, path: str = file.path) -> np.ndarray:
            if not (x >= 0).all():  # NaN, too
                raise InputError(
                    f'Expected 0 and numbers above it in {path}, the ignored regions; '
                    'found NaN or a number below 0. Repair the file.'
                )
            return x > 0

        masks.append(mapped(_in_image(image, [stored], [region], [region]), bool, marked))
    if ids is not None and custom.ignore_ids:
        masks.append(mapped(labels, bool, lambda x: is_ignored(x, custom.ignore_ids)))
    if not masks:
        return None
    return LazySections(
        labels.shape, bool, lambda z, *crop: np.any([mask[z, *crop] for mask in masks], axis=0)
    )
