"""The segments that are to be joined, wherever they lie."""

from pathlib import Path
from typing import Any

import numpy as np

from taclnet_jax.data.cremi_file import IDS
from taclnet_jax.errors import InputError
from taclnet_jax.files import parse_json, stamp
from taclnet_jax.volumes import LazySections, StoredArray, absolute_path, open_array
from taclnet_jax.volumes.sections import Geometry, Sections

_ABOUT = 'prediction.json'


def open_segments(path: str, dataset: str = '') -> tuple[StoredArray, Geometry]:
    """Opens the segments of a prediction, or an array of segments.

    Args:
        path: folder of a prediction, or what `open_array` reads.
        dataset: in it, of an array.

    Returns:
        The segments, and their voxel size and offset; a prediction knows them where its format
        cannot hold them.

    Raises:
        InputError: there is none, or the prediction is without segments.
    """
    about = Path(path, _ABOUT)
    if '://' in path or not about.is_file():
        found = open_array(path, 'segments', dataset)
        return found, Geometry(found.resolution_nm, found.offset_nm)
    if dataset:
        raise InputError(
            f'Expected no dataset for {path}, which is the folder of a prediction, found '
            f'{dataset!r}; leave it out.'
        )
    try:
        told: dict[str, Any] = parse_json(about.read_text())
        files = dict(told['files'])
        resolution_nm, offset_nm = (
            tuple(told[name]) if told[name] else None for name in ('resolution_nm', 'offset_nm')
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f'Expected what {about} says of its prediction, found it damaged; give the path of the '
            'segments themselves.'
        ) from error
    if 'segments' not in files:
        raise InputError(
            f'Expected segments in the prediction {path}, found {", ".join(files)}; predict with '
            '--names=segments among them.'
        )
    file = Path(path, files['segments'])
    found = open_array(file, 'segments', IDS if file.suffix == '.h5' else '')
    return found, Geometry(resolution_nm, offset_nm)


def masked(segments: StoredArray, mask: StoredArray) -> Sections:
    """The segments, 0 where the mask is.

    Raises:
        InputError: the sizes differ, or the mask is 0 throughout.
    """
    if mask.shape != segments.shape:
        raise InputError(
            f'Expected a mask of the size of the segments, {segments.shape}; found {mask.shape} in '
            f'{mask.name}.'
        )
    if not any(mask[z].any() for z in range(mask.shape[0])):
        raise InputError(f'The mask {mask.name} is 0 throughout; there is nothing to do.')

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        crop = segments[z, rows, columns]
        return np.where(mask[z, rows, columns] != 0, crop, crop.dtype.type(0))

    return LazySections(segments.shape, segments.dtype, read)


def identity(path: str, dataset: str, array: StoredArray | None) -> list[Any]:
    """What tells an array from another one, or from itself after it was written again.

    Of what lies at an address nothing does: the last entry is ''.

    Args:
        path, dataset: as they were given; '' where there is none.
        array: what was found there, such as one of the files of a prediction.
    """
    written = stamp(absolute_path(array.path)) if array is not None else ''
    return [absolute_path(path), dataset, written]
