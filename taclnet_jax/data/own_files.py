"""Which files make which of one's own volumes, and which boxes of it are labelled."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from taclnet_jax.config.data import CustomSettings
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import StoredArray, open_array
from taclnet_jax.volumes.sections import Box

T = TypeVar('T')


class File(NamedTuple):
    """A file, folder or address, and the array inside; '' where there is none."""

    path: str
    dataset: str

    def open(self, what: str) -> StoredArray:
        """The array, for reading; `what` it holds is for messages."""
        return open_array(self.path, what, self.dataset)


@dataclass
class OwnVolume:
    """An image with all that is labelled in it."""

    image: File
    labels: list[tuple[File, File]] = field(default_factory=list)  # each with ignored regions
    boxes: list[tuple[int, ...]] = field(default_factory=list)  # of 2 or 6 numbers


def own_volumes(custom: CustomSettings) -> list[OwnVolume]:
    """The volumes that the settings name: pairs of image and labels, joined where images are one.

    Raises:
        InputError: files are missing, or lists of several lengths, or boxes are of no volume.
    """
    for key in ('image', 'labels'):
        if not getattr(custom, key):
            raise InputError(
                f'Expected config.custom.{key}, the path of a TIFF stack, a folder of sections, '
                'an HDF5 file, or a zarr, N5 or precomputed folder; found none.'
            )
    labels = _files(custom.labels, custom.labels_dataset, 'labels')
    images = _as_many(_files(custom.image, custom.image_dataset, 'image'), labels, 'image')
    ignored = [File('', '')]
    if custom.ignore:
        ignored = _files(custom.ignore, custom.ignore_dataset, 'ignore')
    ignored = _as_many(ignored, labels, 'ignore')
    volumes: dict[File, OwnVolume] = {}
    for image, pair in zip(images, zip(labels, ignored, strict=True), strict=True):
        volumes.setdefault(image, OwnVolume(image)).labels.append(pair)
    found = list(volumes.values())
    boxes = [box for box in custom.boxes if isinstance(box, tuple)]
    if custom.boxes and not boxes:  # a single one, without brackets around it
        boxes = [tuple(end for end in custom.boxes if isinstance(end, int))]
    for given in boxes:
        number, *box = (given or (-1,)) if len(found) > 1 else (0, *given)
        if len(box) not in (2, 6) or not 0 <= number < len(found):
            first = f'a volume (0 to {len(found) - 1}), then ' if len(found) > 1 else ''
            raise InputError(
                f'Expected each of config.custom.boxes as {first}(z0, z1) or (z0, z1, y0, y1, x0, '
                f'x1) in voxels; found {given}.'
            )
        found[number].boxes.append(tuple(box))
    if not set(custom.test_volumes) < set(range(len(found))):
        raise InputError(
            'Expected config.custom.test_volumes to be some, and not all, of the numbers from 0 '
            f'to {len(found) - 1} of the volumes; found {custom.test_volumes}.'
        )
    return found


def paths_in(text: str) -> list[str]:
    """Paths that are separated by commas; one that exists may have some itself."""
    paths = [text] if os.path.exists(text) else text.split(',')
    return [os.path.expanduser(path.strip()) for path in paths]


def box_in(given: Sequence[int], shape: Sequence[int], name: str) -> Box:
    """A box of `OwnVolume` with all its ends; InputError if it does not lie in its image."""
    depth, height, width = shape
    z0, z1, y0, y1, x0, x1 = given if len(given) == 6 else (*given, 0, height, 0, width)
    if not (0 <= z0 < z1 <= depth and 0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
        raise InputError(
            f'Expected boxes of labels inside the image, {tuple(shape)} [z, y, x], each end above '
            f'its start; found {tuple(given)} for {name}. Correct config.custom.boxes.'
        )
    return z0, z1, y0, y1, x0, x1


def _files(paths: str, datasets: str, key: str) -> list[File]:
    names = paths_in(paths)
    if not all(names) and key != 'ignore':
        raise InputError(
            f'Expected paths between the commas of config.custom.{key}; found {paths!r}.'
        )
    inside = [dataset.strip() for dataset in datasets.split(',')]
    return list(map(File, names, _as_many(inside, names, f'{key}_dataset', key)))


def _as_many(given: list[T], others: Sequence[object], key: str, other: str = 'labels') -> list[T]:
    """As many as others there are: one stands for all."""
    if len(given) == 1:
        return given * len(others)
    if len(given) != len(others):
        raise InputError(
            f'Expected one entry in config.custom.{key}, or as many as in config.custom.{other}, '
            f'{len(others)}, separated by commas; found {len(given)}.'
        )
    return given
