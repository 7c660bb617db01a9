"""What a prediction leaves: a folder with an array for each map, a picture, and what it is of."""

import contextlib
import json
from pathlib import Path

import numpy as np

import taclnet_jax
from taclnet_jax.data.resolution import resampled
from taclnet_jax.errors import InputError
from taclnet_jax.figures import prediction_panels
from taclnet_jax.files import explained, replacing, write_text
from taclnet_jax.prediction.job import Job
from taclnet_jax.prediction.numbering import Numbering
from taclnet_jax.prediction.passes import Passes
from taclnet_jax.prediction.source import open_input, size_for_model
from taclnet_jax.prediction.store import as_sections
from taclnet_jax.progress import Progress
from taclnet_jax.volumes import FORMATS, LazySections, Sections, StoredArray, write_array
from taclnet_jax.volumes.sections import Triple, cropped, listed, mapped

_ENDS = {'tiff': '.tif', 'hdf5': '.h5', 'zarr2': '.zarr', 'zarr3': '.zarr', 'n5': '.n5'}
_ABOUT = 'prediction.json'
# Sides of the picture of a section, of whose middle it is.
_PICTURE_PX = 1024


class Output:
    """The folder of a prediction.

    Args:
        folder: of the results.
        format: of `FORMATS`.
    """

    def __init__(self, folder: str | Path, format: str) -> None:
        if format not in FORMATS:
            raise InputError(f'Expected one of the formats {", ".join(FORMATS)}; found {format!r}.')
        self.folder = Path(folder)
        self.format = format

    @property
    def scratch(self) -> Path:
        """Where the work is kept by default."""
        return self.folder.absolute().parent / f'.{self.folder.name}.unfinished'

    def check(self, job: Job, scratch: Path, overwrite: bool) -> None:
        """Refuses what cannot be written there, before the work.

        Raises:
            InputError: something is in the way, or the format cannot hold a map.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f'Expected --output to be a folder; {self.folder} is a file.')
        if self.format == 'png' and job.dtype == 'float32' and job.map_names:
            raise InputError('PNG cannot hold float32 maps; write uint8, or choose another format.')
        if self.format == 'precomputed' and open_input(job).resolution_nm is None:
            raise InputError(
                f'Precomputed needs a voxel size, which {job.input} does not say; choose another '
                'format.'
            )
        mine, other = self.folder.resolve(), scratch.resolve()
        if mine.is_relative_to(other) or other.is_relative_to(mine):
            raise InputError(
                f'Expected --scratch and --output apart from each other, found {scratch} and '
                f'{self.folder}.'
            )
        if not self.folder.exists() or not any(self.folder.iterdir()):
            return
        about, files = _told(self.folder / _ABOUT)
        others = sorted({path.name for path in self.folder.iterdir()} - files)
        if others:
            raise InputError(
                f'Expected --output to be a new folder, or that of a prediction; {self.folder} '
                f'holds something else ({listed(others, 3)}). Choose another one.'
            )
        if not overwrite:
            raise InputError(
                f'{self.folder} holds {about}. Choose another --output, or replace it with '
                '--overwrite.'
            )

    def write(self, passes: Passes, numbering: Numbering | None) -> dict[str, str]:
        """Writes everything at once, or nothing; returns the files by name."""
        job, layout = passes.job, passes.layout
        source = open_input(job)
        first = [start for start, _ in job.box]
        shape = tuple(stop - start for start, stop in job.box)
        resolution_nm = source.resolution_nm
        offset_nm = _offset(source, first)
        files: dict[str, str] = {}
        arrays: dict[str, Sections] = {}
        for name in job.names:
            stored: Sections = as_sections(passes.results[name])
            if numbering is not None and name == 'segments':
                stored = self._numbered(numbering.applied(stored))
            corner = [f.start for f in layout.fine]
            if job.zoom != (1, 1):
                stored, corner = _back(stored, corner, job, source.shape), [0, 0]
                stored = cropped(stored, (0, *first[1:]), shape)
            else:
                inside = (0, *(a - b for a, b in zip(first[1:], corner, strict=True)))
                stored = cropped(stored, inside, shape)
            arrays[name] = stored
        with explained(self.folder), replacing(self.folder) as folder:
            folder.mkdir()
            for name, array in arrays.items():
                path, dataset = self._place(folder, name)
                with contextlib.closing(Progress(0, array.shape[0], 'section')) as bar:
                    shown = _counted(array, bar, f'writing {name}')
                    write_array(
                        path,
                        shown,
                        format=self.format,
                        dataset=dataset,
                        # What a format cannot hold stands in prediction.json.
                        resolution_nm=None if self.format == 'png' else resolution_nm,
                        offset_nm=None if self.format in ('png', 'tiff') else offset_nm,
                    )
                files[name] = str(self.folder / path.relative_to(folder))
            picture = folder / 'section.png'
            _draw(picture, passes, source, arrays, first)
            files['picture'] = str(self.folder / picture.name)
            about = {
                'input': job.input,
                'dataset': job.dataset,
                'box': job.box,
                'files': {name: Path(path).name for name, path in files.items()},
                'dtype': job.dtype,
                'resolution_nm': resolution_nm,
                'offset_nm': offset_nm,
                'workdir': job.workdir,
                'step': job.step,
                'version': taclnet_jax.__version__,
                'settings': job.settings,
            }
            write_text(folder / _ABOUT, json.dumps(about, indent=2) + '\n')
        return files

    def _place(self, folder: Path, name: str) -> tuple[Path, str]:
        """Path and dataset of a map; HDF5 is one file, as CREMI's are."""
        if self.format == 'hdf5':
            dataset = 'volumes/labels/neuron_ids' if name == 'segments' else f'volumes/{name}'
            return folder / 'prediction.h5', dataset
        return folder / f'{name}{_ENDS.get(self.format, "")}', ''

    def _numbered(self, segments: LazySections) -> Sections:
        """In the type that the format and its readers take for segments."""
        if self.format in ('tiff', 'png', 'hdf5'):
            return segments
        dtype = np.dtype(np.uint32 if segments.dtype.itemsize <= 4 else np.uint64)
        return mapped(segments, dtype, lambda crop: crop.astype(dtype))


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


def _counted(array: Sections, bar: Progress, what: str) -> LazySections:
    """Shows sections as they are read."""
    begun: set[int] = set()

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        if z not in begun:
            begun.add(z)
            bar.step(what)
        return array[z, rows, columns]

    return LazySections(array.shape, array.dtype, read)


def _draw(
    path: Path, passes: Passes, source: StoredArray, arrays: dict[str, Sections], first: list[int]
) -> None:
    """The middle of the middle section."""
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


def _told(about: Path) -> tuple[str, set[str]]:
    """What the prediction in a folder is of, and its files; none where there is no prediction."""
    try:
        found = json.loads(about.read_text())
        told = f'the prediction of {found["input"]}, box {found["box"]}, by {found["workdir"]}'
        return told, {about.name, *found['files'].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return '', set()
