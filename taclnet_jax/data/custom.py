"""Your own volume, from whatever files it is in."""

import math

import numpy as np

from taclnet_jax.config.data import CustomSettings, DataSettings
from taclnet_jax.data.labels import membranes_from_ids, unlabelled_far_from_ids
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
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
    _check_same_region(image, labels, resolution_nm)
    membrane, ids = _labels(custom, labels, settings.membrane_dilation_px)
    _check_labels(custom, labels, membrane)
    ignore = _ignored(settings, labels, ids)
    grey = as_uint8_sections(image, custom.image)
    volume = Volume(custom.image, grey, membrane, ids, resolution_nm, ignore)
    stacks = [stack for stack in (grey, membrane, ids, ignore) if stack is not None]
    size = sum(math.prod(stack.shape) * stack.dtype.itemsize for stack in stacks)
    return volume if size > settings.cache_mb * 1e6 else volume.in_memory()


def _check_same_region(image: StoredArray, labels: StoredArray, resolution_nm: Triple) -> None:
    if image.shape != labels.shape:
        turned = labels.shape == image.shape[::-1]
        raise InputError(
            f'Expected image and labels of one size [z, y, x]; found {image.shape} in '
            f'{image.path} and {labels.shape} in {labels.path}'
            + ('. One of them is in the order [x, y, z]: turn it.' if turned else '. Crop one.')
        )
    if None not in (image.offset_nm, labels.offset_nm) and not np.allclose(
        image.offset_nm or 0, labels.offset_nm or 0, atol=0.5 * min(resolution_nm)
    ):
        raise InputError(
            f'Expected image and labels of the same region; by their offsets the image begins at '
            f'{image.offset_nm} nm and the labels at {labels.offset_nm} nm (z, y, x). Crop one.'
        )


def _labels(
    custom: CustomSettings, labels: StoredArray, dilation_px: int
) -> tuple[Sections, Sections | None]:
    """(membrane, ids or None)."""
    if custom.label_kind == 'ids':
        if not np.issubdtype(labels.dtype, np.integer):
            raise InputError(
                f'Expected integer instance ids in {labels.path}; found {labels.dtype}. If it is a '
                'mask, set config.custom.label_kind to membrane or interior.'
            )
        ids: Sections = labels
        if ignored := list(custom.ignore_ids):
            ids = mapped(labels, labels.dtype, lambda x: np.where(np.isin(x, ignored), 0, x))
        return membranes_from_ids(ids, dilation_px), ids
    interior = custom.label_kind == 'interior'
    return mapped(labels, bool, lambda x: (x == 0) == interior), None


def _ignored(settings: DataSettings, labels: StoredArray, ids: Sections | None) -> Sections | None:
    """Where nothing is labelled: by a mask, by certain ids, by distance from all ids."""
    custom = settings.custom
    masks: list[Sections] = []
    if custom.ignore:
        stored = open_array(custom.ignore, 'ignored regions', custom.ignore_dataset)
        if stored.shape != labels.shape:
            raise InputError(
                f'Expected the ignored regions in the size of the labels, {labels.shape}; found '
                f'{stored.shape} in {custom.ignore}.'
            )
        masks.append(mapped(stored, bool, lambda x: x != 0))
    if ids is not None and custom.ignore_ids:
        masks.append(mapped(labels, bool, lambda x: np.isin(x, list(custom.ignore_ids))))
    if ids is not None and settings.unlabelled_beyond_px:
        masks.append(unlabelled_far_from_ids(ids, settings.unlabelled_beyond_px))
    if not masks:
        return None
    return LazySections(
        labels.shape, bool, lambda z, *crop: np.any([mask[z, *crop] for mask in masks], axis=0)
    )


def _check_labels(custom: CustomSettings, labels: StoredArray, membrane: Sections) -> None:
    """Refuses labels that no network can learn from, by a look at a few sections."""
    depth = membrane.shape[0]
    looked = sorted({0, depth // 2, depth - 1})
    share = float(np.mean([membrane[z].mean() for z in looked]))
    if share in (0.0, 1.0):
        found = 'no membrane at all' if share == 0 else 'nothing but membrane'
        raise InputError(
            f'Expected labels with membranes and cells in {labels.path}; found {found} in sections '
            f'{", ".join(map(str, looked))} with config.custom.label_kind={custom.label_kind!r}. '
            'Check label_kind (ids, membrane or interior) and the file.'
        )
    if custom.label_kind != 'ids':
        values = np.unique(labels[looked[len(looked) // 2]])
        if len(values) > 2:
            raise InputError(
                f'Expected a mask of two values in {labels.path} with config.custom.label_kind='
                f'{custom.label_kind!r}; found {len(values)} values from {values[0]} to '
                f'{values[-1]}. Instance ids need label_kind=ids.'
            )
