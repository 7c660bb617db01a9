"""Your own volume, from whatever files it is in."""

import math
from collections.abc import Mapping

import numpy as np

from taclnet_jax.config.data import DataSettings
from taclnet_jax.data.labels import unlabelled_far_from_ids
from taclnet_jax.data.own_labels import is_ignored, read_labels, without_unlabelled
from taclnet_jax.data.volume import OTHER_SIZE, SAME_SIZE, Volume
from taclnet_jax.errors import InputError, doubt
from taclnet_jax.volumes import (
    LazySections,
    Sections,
    StoredArray,
    as_uint8_sections,
    check_axis_order,
    open_array,
)
from taclnet_jax.volumes.sections import Triple, mapped


def load(settings: DataSettings) -> Volume:
    """The volume of `settings.custom`, read into memory if it fits in `settings.cache_mb`.

    A larger one stays on disk, and crops are read as they are needed.

    Raises:
        InputError: files are missing or unfit, or image and labels do not belong together.
    """
    custom = settings.custom
    if not custom.image or not custom.labels:
        missing = 'image' if not custom.image else 'labels'
        raise InputError(
            f'Expected config.custom.{missing}, the path of a TIFF stack, a folder of sections, '
            'an HDF5 file, or a zarr, N5 or precomputed folder; found none.'
        )
    image = open_array(custom.image, 'image', custom.image_dataset)
    labels = open_array(custom.labels, 'labels', custom.labels_dataset)
    resolution_nm = custom.resolution_nm or image.resolution_nm or labels.resolution_nm
    if not resolution_nm:
        raise InputError(
            f'{custom.image} does not say its voxel size; set config.custom.resolution_nm to '
            '(z, y, x) in nm, for example --config.custom.resolution_nm="(40, 4, 4)".'
        )
    check_axis_order(image.shape, resolution_nm, custom.image)
    _check_same_region(image, labels, 'labels', resolution_nm)
    sizes = {image.name: image.resolution_nm, labels.name: labels.resolution_nm}
    _check_voxel_size(sizes, custom.resolution_nm)
    membrane, ids = read_labels(custom, labels, settings.membrane_dilation_px)
    ignore = _ignored(settings, image, labels, ids, resolution_nm)
    grey = as_uint8_sections(image, custom.image)
    gaps = tuple(sorted({*image.gaps, *labels.gaps}))
    volume = Volume(custom.image, grey, membrane, ids, resolution_nm, ignore, gaps=gaps)
    stacks = [stack for stack in (grey, membrane, ids, ignore) if stack is not None]
    size = sum(math.prod(stack.shape) * stack.dtype.itemsize for stack in stacks)
    volume = volume if size > settings.cache_mb * 1e6 else volume.in_memory()
    return without_unlabelled(volume, custom.labels)


def _check_same_region(
    image: StoredArray, other: StoredArray, what: str, resolution_nm: Triple
) -> None:
    """Refuses two arrays of other shapes, places, or numbers of sections."""
    if image.shape != other.shape:
        turned = other.shape == image.shape[::-1]
        raise InputError(
            f'Expected image and {what} of one size [z, y, x]; found {image.shape} in '
            f'{image.path} and {other.shape} in {other.path}'
            + ('. One of them is in the order [x, y, z]: turn it.' if turned else '. Crop one.')
        )
    if None not in (image.offset_nm, other.offset_nm) and not np.allclose(
        image.offset_nm or 0, other.offset_nm or 0, atol=0.5 * min(resolution_nm)
    ):
        raise InputError(
            f'Expected image and {what} of the same region; by their offsets the image begins at '
            f'{image.offset_nm} nm and the {what} at {other.offset_nm} nm (z, y, x). Crop one.'
        )
    numbers = zip(image.numbers or (), other.numbers or (), strict=False)
    if unlike := next((pair for pair in numbers if pair[0] != pair[1]), None):
        raise InputError(
            f'Expected image and {what} of the same sections; by the names of their files section '
            f'{unlike[0]} in {image.path} would go with {unlike[1]} in {other.path}. Remove what '
            'has no partner, or number both alike.'
        )


def _check_voxel_size(named: Mapping[str, Triple | None], given: Triple | tuple[()]) -> None:
    """Says where files have other voxel sizes than each other or the settings."""
    sizes = {name: size for name, size in named.items() if size}
    if given:
        sizes['config.custom.resolution_nm'] = given
    ratios = np.divide(*(f([*sizes.values()], axis=0) for f in (np.max, np.min))) if sizes else 1
    if (ratio := np.max(ratios)) < SAME_SIZE:
        return
    found = ', '.join(f'{size} in {name}' for name, size in sizes.items())
    message = f'Expected one voxel size (z, y, x) in nm of image and labels; found {found}.'
    if ratio >= OTHER_SIZE and not given:
        raise InputError(
            f'{message} Crop or resample one of them; or, if a file is wrong, set '
            'config.custom.resolution_nm to the right one.'
        )
    doubt(f'{message} {"Those of the settings are" if given else "That of the image is"} taken.')


def _ignored(
    settings: DataSettings,
    image: StoredArray,
    labels: StoredArray,
    ids: Sections | None,
    resolution_nm: Triple,
) -> Sections | None:
    """Where nothing is labelled: by a mask, by certain ids, by distance from all ids."""
    custom = settings.custom
    masks: list[Sections] = []
    if custom.ignore:
        stored = open_array(custom.ignore, 'ignored regions', custom.ignore_dataset)
        _check_same_region(image, stored, 'ignored regions', resolution_nm)

        def marked(x: np.ndarray) -> np.ndarray:
            if not (x >= 0).all():  # NaN, too
                raise InputError(
                    f'Expected 0 and numbers above it in {custom.ignore}, the ignored regions; '
                    'found NaN or a number below 0. Repair the file.'
                )
            return x > 0

        masks.append(mapped(stored, bool, marked))
    if ids is not None and custom.ignore_ids:
        masks.append(mapped(labels, bool, lambda x: is_ignored(x, custom.ignore_ids)))
    if ids is not None and settings.unlabelled_beyond_px:
        masks.append(unlabelled_far_from_ids(ids, settings.unlabelled_beyond_px))
    if not masks:
        return None
    return LazySections(
        labels.shape, bool, lambda z, *crop: np.any([mask[z, *crop] for mask in masks], axis=0)
    )
