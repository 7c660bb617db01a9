"""What a prediction leaves: an array for each map, a picture, and what it is of."""

import json
from pathlib import Path
from typing import Any

import numpy as np

import taclnet_jax
from taclnet_jax import page
from taclnet_jax.cores import hardware
from taclnet_jax.data.cremi_file import IDS
from taclnet_jax.data.resolution import resampled
from taclnet_jax.files import write_text
from taclnet_jax.inference import Cut
from taclnet_jax.prediction.job import Job
from taclnet_jax.prediction.numbering import Numbering
from taclnet_jax.prediction.older import ABOUT
from taclnet_jax.prediction.passes import Passes
from taclnet_jax.prediction.source import open_input, size_for_model
from taclnet_jax.prediction.store import as_sections
from taclnet_jax.volumes import (
    ENDINGS,
    LazySections,
    Sections,
    StoredArray,
    check_array,
    write_array,
)
from taclnet_jax.volumes.sections import Geometry, Triple, cropped, mapped, shown
from taclnet_jax.volumes.units import shown_nm

_PICTURE, _REPORT = 'section.png', 'report.html'
_BESIDE = {'picture': _PICTURE, 'report': _REPORT}
# Sides of the picture of a section, of whose middle it is.
_PICTURE_PX = 1024


class Export:
    """What a job leaves, in a format.

    Args:
        job: what is predicted.
        format: of `FORMATS`.

    Attributes:
        about: what it is of, and its files by name, as prediction.json says it.

    Raises:
        InputError: the format cannot hold it.
    """

    def __init__(self, job: Job, format: str) -> None:
        self._job, self._format = job, format
        self._source = open_input(job)
        self._first = [start for start, _ in job.box]
        self._shape = tuple(stop - start for start, stop in job.box)
        resolution_nm = self._source.resolution_nm
        offset_nm = _offset(self._source, self._first)
        # What a format cannot hold stands in prediction.json.
        self._geometry = Geometry(
            None if format == 'png' else resolution_nm,
            None if format in ('png', 'tiff') else offset_nm,
        )
        for name in job.names:
            dtype = self._segments_dtype(1) if name == 'segments' else np.dtype(job.dtype)
            check_array(name, self._shape, dtype, format, **self._geometry._asdict())
        self.about = {
            'input': job.input,
            'dataset': job.dataset,
            'mask': job.mask,
            'box': job.box,
            'files': {name: self._place(name, 1)[0] for name in job.names} | _BESIDE,
            'dtype': job.dtype,
            'resolution_nm': resolution_nm,
            'offset_nm': offset_nm,
            'model': job.model,
            'step': job.step,
            'cut': Cut(*job.cut)._asdict() if job.cut else None,
            'version': taclnet_jax.__version__,
            'settings': job.settings,
        }

    def write(self, folder: Path, passes: Passes, numbering: Numbering | None) -> dict[str, str]:
        """Writes all of it into an empty folder; returns the names of the files there."""
        job, layout, first = self._job, passes.layout, self._first
        files: dict[str, str] = {}
        arrays: dict[str, Sections] = {}
        for name in job.names:
            stored: Sections = as_sections(passes.results[name])
            if numbering is not None and name == 'segments':
                numbers = numbering.applied(stored)
                stored = mapped(numbers, self._segments_dtype(numbering.largest), np.asarray)
            corner = [f.start for f in layout.fine]
            if job.zoom != (1, 1):
                stored, corner = _back(stored, corner, job, self._source.shape), [0, 0]
                stored = cropped(stored, (0, *first[1:]), self._shape)
            else:
                inside = (0, *(a - b for a, b in zip(first[1:], corner, strict=True)))
                stored = cropped(stored, inside, self._shape)
            arrays[name] = stored
        for name, array in arrays.items():
            file, dataset, format = self._place(name, array.dtype.itemsize)
            with shown(array, f'writing {name}') as read:
                write_array(
                    folder / file,
                    read,
                    format=format,
                    dataset=dataset,
                    resolution_nm=self._geometry.resolution_nm,
                    offset_nm=self._geometry.offset_nm,
                )
            files[name] = file
        _draw(folder / _PICTURE, passes, self._source, arrays, first)
        files |= _BESIDE
        about = self.about | {'files': files}
        write_text(folder / _REPORT, _page(about, folder / _PICTURE))
        write_text(folder / ABOUT, json.dumps(about, indent=2) + '\n')
        return files

    def _place(self, name: str, itemsize: int) -> tuple[str, str, str]:
        """File, dataset and format of a map; HDF5 is one file, as CREMI's are.

        Numbers of segments that PNG cannot hold become a TIFF.
        """
        if self._format == 'hdf5':
            dataset = IDS if name == 'segments' else f'volumes/{name}'
            return 'prediction.h5', dataset, 'hdf5'
        format = 'tiff' if self._format == 'png' and itemsize > 2 else self._format
        return f'{name}{ENDINGS.get(format, "")}', '', format

    def _segments_dtype(self, largest: int) -> np.dtype:
        """That holds numbers up to the largest, and that the format and its readers take."""
        dtype = np.min_scalar_type(max(largest, 256))
        if self._format in ('tiff', 'png', 'hdf5'):
            return dtype
        return np.dtype(np.uint32 if dtype.itemsize <= 4 else np.uint64)


def _page(about: dict[str, Any], picture: Path) -> str:
    """What a prediction is of, its picture, settings and hardware, in one file of HTML."""
    facts = {
        'input': f'{about["input"]} {about["dataset"]}',
        'box (z, y, x)': ', '.join(f'{first}:{stop}' for first, stop in about['box']),
        'voxel size (z, y, x)': shown_nm(about['resolution_nm']),
        'offset (z, y, x)': shown_nm(about['offset_nm']),
        'written': ', '.join(about['files'].values()),
        'model': f'{about["model"]}, parameters of step {about["step"]}',
        'segments': _shown_cut(about['cut']),
        'written on': hardware(),
        'version': about['version'],
    }
    parts = [
        page.table(['prediction', ''], facts.items()),
        page.picture(picture, 'Middle section.'),
        page.settings(about['settings']),
    ]
    return page.page(f'Prediction of {Path(about["input"]).name}', parts)


def _shown_cut(cut: dict[str, Any] | None) -> str:
    if cut is None:
        return 'not asked for'
    closing = cut['closing']
    closed = 'not closed' if closing is None else f'closed (closing {closing:.3g})'
    return f'P_hat from {cut["threshold"]:.3g} on is membrane, {closed}'


def _back(stored: Sections, corner: list[int], job: Job, shape: tuple[int, ...]) -> Sections:
    """A map of the region at the volume's own size, whole sections of which the box is read."""
    sizes = size_for_model(job, shape)
    top, left = corner

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        # Beyond the region, which nobody asks for, is what lies at its border.
        y = np.arange(rows.start, rows.stop).clip(top, top + stored.shape[1] - 1) - top
        x = np.arange(columns.start, columns.stop).clip(left, left + stored.shape[2] - 1) - left
        crop = stored[z, slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1)]
        return crop[np.ix_(y - y[0], x - x[0])]

    whole = LazySections((stored.shape[0], *sizes), stored.dtype, read)
    ids = stored.dtype.kind == 'u' and stored.dtype.itemsize > 1
    return resampled(whole, (shape[1], shape[2]), order=0 if ids else 1)


def _offset(source: StoredArray, first: list[int]) -> Triple | None:
    """Of the box's first voxel."""
    if source.resolution_nm is None:  # which no format has an offset without
        return None
    if source.offset_nm is None and not any(first):
        return None
    begun = source.offset_nm or (0.0, 0.0, 0.0)
    z, y, x = (o + n * nm for o, n, nm in zip(begun, first, source.resolution_nm, strict=True))
    return z, y, x


def _draw(
    path: Path, passes: Passes, source: StoredArray, arrays: dict[str, Sections], first: list[int]
) -> None:
    """The middle of the middle section."""
    from taclnet_jax.figures import prediction_panels  # matplotlib, for which no block need wait

    depth, *sides = next(iter(arrays.values())).shape
    z = depth // 2
    y, x = (slice(max((n - _PICTURE_PX) // 2, 0), min((n + _PICTURE_PX) // 2, n)) for n in sides)
    rows, columns = (slice(s.start + f, s.stop + f) for s, f in zip((y, x), first[1:], strict=True))
    image = source[first[0] + z, rows, columns]
    maps = {name: array[z, y, x] for name, array in arrays.items()}
    segments = maps.pop('segments', None)
    if passes.job.dtype == 'uint8':
        maps = {name: values / 255 for name, values in maps.items()}
    prediction_panels(path, image, maps, segments)
