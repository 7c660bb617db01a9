"""Labels of one's own: what they hold is checked whenever it is read."""

import dataclasses
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import skimage as ski

from taclnet_jax.config.data import CustomSettings
from taclnet_jax.data.labels import membranes_from_ids
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError, doubt
from taclnet_jax.volumes import LazySections, Sections, StoredArray
from taclnet_jax.volumes.sections import listed

_LARGEST_ID = 2**63 - 1
_LOOKED = 16
"""Sections that are looked at before the others are."""

_CLASSES = 10
_PIECES = 4
"""So few numbers in so many pieces each, in a section, are classes and no cells."""


def read_labels(
    custom: CustomSettings, labels: StoredArray, sections: Sequence[int], dilation_px: int
) -> tuple[Sections, Sections | None]:
    """Membranes, and ids where they are labels, of which these sections hold some.

    Reading raises InputError where a section holds anything else than the kind of labels that
    `custom.label_kind` says.

    Raises:
        InputError: no network can learn from the labels, or they are of another kind.
    """
    places = sorted(set(np.linspace(0, len(sections) - 1, _LOOKED, dtype=int).tolist()))
    looked = [sections[place] for place in places]
    if custom.label_kind == 'ids':
        ids = _ids(custom, labels)
        _check_cells(labels, [ids[z] for z in looked], looked)
        return membranes_from_ids(ids, dilation_px), ids
    return _mask(custom, labels, looked), None


def without_unlabelled(volume: Volume, path: str) -> Volume:
    """The volume, ignoring sections that nobody labelled: without an id, or all of one value."""

    def unlabelled(z: int) -> bool:
        if volume.ids is not None:
            return not volume.ids[z].any()
        assert volume.membrane is not None
        membrane = volume.membrane[z]
        return bool(membrane.all() or not membrane.any())

    advice = (
        'such sections are neither trained on nor scored. If few are labelled, name them with '
        'config.custom.boxes, and folds are made of those.'
    )
    labelled = volume.labelled(range(volume.shape[0]))
    if isinstance(volume.membrane, np.ndarray):
        empty = [z for z in labelled if unlabelled(z)]
        if not empty:
            return volume
        doubt(
            f'Nothing is labelled in {len(empty)} of {len(labelled)} sections of {path}: '
            f'{listed(empty, 10)} (counted from 0); {advice}'
        )
        ignore = np.zeros(volume.shape, bool) if volume.ignore is None else volume.ignore
        assert isinstance(ignore, np.ndarray)
        ignore[empty] = True
        return dataclasses.replace(volume, ignore=ignore)

    first: list[int] = []
    within = labelled if isinstance(labelled, range) else frozenset(labelled)

    @cache
    def said(z: int) -> bool:
        if (found := z in within and unlabelled(z)) and not first:
            first.append(z)
            doubt(f'Nothing is labelled in section {z} (counted from 0) of {path}; {advice}')
        return found

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        if said(z) or volume.ignore is None:
            return np.full((rows.stop - rows.start, columns.stop - columns.start), said(z))
        return volume.ignore[z, rows, columns]

    return dataclasses.replace(volume, ignore=LazySections(volume.shape, bool, read))


def is_ignored(values: np.ndarray, ignored: Sequence[int]) -> np.ndarray:
    """Where labels are among the ids that stand for what nobody labelled."""
    return np.logical_or.reduce([values == number for number in ignored])


def _ids(custom: CustomSettings, labels: StoredArray) -> LazySections:
    """Ids from 0 to 2^63 - 1, whole numbers, though they may be stored as floats; 0 if ignored."""
    if labels.dtype.kind == 'b':
        raise _is_mask(labels, 'booleans')
    floats = labels.dtype.kind == 'f'
    if floats:
        largest = 2 ** (np.finfo(labels.dtype).nmant + 1)  # beyond it not all whole numbers exist
    else:
        # All ones in 32 or 64 bits were -1 before somebody changed the type.
        largest = int(np.iinfo(labels.dtype).max) - (labels.dtype.itemsize >= 4)
    largest = min(largest, _LARGEST_ID)

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        crop = labels[z, rows, columns]
        wrong = ~((crop >= 0) & (crop <= largest))  # NaN, too
        if floats:
            wrong |= crop != np.rint(crop)
        if custom.ignore_ids:
            ignored = is_ignored(crop, custom.ignore_ids)
            crop = np.where(ignored, crop.dtype.type(0), crop)
            wrong &= ~ignored
        if wrong.any():
            found = crop[wrong][0]
            advice = f'set --config.custom.ignore_ids="({found},)"'
            if not np.isfinite(found) or found != np.rint(found):
                advice = 'store it as a whole number, and name that in config.custom.ignore_ids'
            raise InputError(
                f'Expected integer instance ids from 0 to {largest} in {labels.path}; found '
                f'{found} in section {z} (counted from 0). If that stands for what nobody '
                f'labelled, {advice}; if it is a mask, set config.custom.label_kind to membrane or '
                'interior.'
            )
        return crop.astype(np.int64) if floats else crop

    return LazySections(labels.shape, np.int64 if floats else labels.dtype, read)


def _check_cells(labels: StoredArray, sections: list[np.ndarray], looked: list[int]) -> None:
    """Refuses ids that are none, as those of a mask or of classes."""
    values = np.unique(np.concatenate([np.unique(section) for section in sections]))
    if len(values) == 1:
        found = 'nothing but membrane' if values[0] == 0 else 'no membrane at all'
        raise _nothing_to_learn(labels, 'ids', found, looked)
    if len(values) == 2:
        raise _is_mask(labels, f'{values[0]} and {values[1]} alone')
    if len(values) <= _CLASSES:
        counts = [len(np.unique(section[section != 0])) for section in sections]
        pieces = [ski.measure.label(s, background=0, connectivity=1).max() for s in sections]
        if sum(pieces) > _PIECES * sum(counts):
            raise _is_mask(labels, f'{len(values)} values, each in many pieces')


def _is_mask(labels: StoredArray, found: str) -> InputError:
    return InputError(
        f'Expected instance ids, a number for each cell, in {labels.path}; found {found}, as in a '
        'mask. Set config.custom.label_kind to membrane, if its higher value is membrane, or to '
        'interior, if 0 is; of several classes save the one of membranes as such a mask.'
    )


def _nothing_to_learn(
    labels: StoredArray, kind: str, found: str, looked: Sequence[int]
) -> InputError:
    return InputError(
        f'Expected labels with membranes and cells in {labels.path}; found {found} in sections '
        f'{", ".join(map(str, looked))} with config.custom.label_kind={kind!r}. Check label_kind '
        '(ids, membrane or interior) and the file; if only a part of it is labelled, name that '
        'with config.custom.boxes.'
    )


def _mask(custom: CustomSettings, labels: StoredArray, looked: list[int]) -> LazySections:
    """Membranes of a mask of 0 and one other value."""
    kind = custom.label_kind
    values: Any = np.unique(np.concatenate([np.unique(labels[z]) for z in looked]))
    others = values[values != 0]
    if len(others) > 1:
        raise InputError(
            f'Expected a mask of two values, 0 and another, in {labels.path} with '
            f'config.custom.label_kind={kind!r}; found {len(values)} values from {values[0]} to '
            f'{values[-1]}. Instance ids need label_kind=ids.'
        )
    if len(values) == 1:
        empty = (values[0] == 0) == (kind == 'membrane')
        found = 'no membrane at all' if empty else 'nothing but membrane'
        raise _nothing_to_learn(labels, kind, found, looked)

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        crop = labels[z, rows, columns]
        wrong = (crop != 0) & (crop != others[0])
        if wrong.any():
            raise InputError(
                f'Expected a mask of two values, 0 and {others[0]}, in {labels.path} with '
                f'config.custom.label_kind={kind!r}; found {crop[wrong][0]} in section {z} '
                '(counted from 0). Repair or remove it.'
            )
        return (crop == 0) == (kind == 'interior')

    return LazySections(labels.shape, bool, read)
