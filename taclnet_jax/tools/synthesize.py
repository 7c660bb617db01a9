"""Writes made-up tissue with exact labels, in the format that you want to try.

    python -m taclnet_jax.tools.synthesize --format=zarr3 --output=tissue --shape=24,256,256

As the files of a published data set, for config.data_dir=<output>:
  cremi         <output>/cremi/sample_A_20160501.hdf and so on, another seed a sample; with
                --padding sample_A_padded_20160501.hdf, whose raw goes on around the labels
  isbi12        <output>/isbi12/train-volume.tif, train-labels.tif: 0 = membrane, 255 = interior
  isbi13        <output>/snemi3d/train-input.tif, train-labels.tif: instance ids
As a volume of your own, for configs/custom.py: an image and its instance ids (0 = membrane), in
  hdf5          <output>/volume.h5, its datasets named as in CREMI's files
  tiff          <output>/image.tif, labels.tif
  png           <output>/image, labels: folders of one file a section
  zarr2, zarr3  <output>/image.zarr, labels.zarr
  n5            <output>/image.n5, labels.n5
  precomputed   <output>/image.precomputed, labels.precomputed: Neuroglancer's

The output ends with the command that trains on it. Sections are made one at a time, 2 s each at
1250x1250, so a volume may be larger than memory. All but cremi and hdf5 keep a copy on the output's
disk, 3 bytes a voxel, while they are being written. An interrupted command leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from taclnet_jax.data.cremi_file import IDS, RAW, write_cremi
from taclnet_jax.data.synthetic import SyntheticTissue
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import LazySections, Sections, write_array

if TYPE_CHECKING:
    from taclnet_jax.progress import Progress

Voxels = tuple[int, int, int]  # (z, y, x), as all triples here
Nanometres = tuple[float, float, float]

SAMPLES = ('A', 'B', 'C')

# (folder below the output, image, labels) of each format but cremi.
_NAMES = {
    'isbi12': ('isbi12', 'train-volume.tif', 'train-labels.tif'),
    'isbi13': ('snemi3d', 'train-input.tif', 'train-labels.tif'),
    'tiff': ('', 'image.tif', 'labels.tif'),
    'png': ('', 'image', 'labels'),
    'hdf5': ('', 'volume.h5', 'volume.h5'),
    'zarr2': ('', 'image.zarr', 'labels.zarr'),
    'zarr3': ('', 'image.zarr', 'labels.zarr'),
    'n5': ('', 'image.n5', 'labels.n5'),
    'precomputed': ('', 'image.precomputed', 'labels.precomputed'),
}
FORMATS = ('cremi', *_NAMES)
_CROP = 156  # of the configurations, in pixels
# What the data sets' readers take for granted.
_RESOLUTION_NM = {'isbi12': (50, 4, 4), 'isbi13': (30, 6, 6)}


class Written(NamedTuple):
    """What `synthesize` has written.

    Attributes:
        paths: files, or the folders of formats that are folders.
        command: a shell command that trains on them.
    """

    paths: tuple[Path, ...]
    command: str


def synthesize(
    format: str,
    output: str | os.PathLike[str],
    *,
    shape: Voxels = (24, 256, 256),
    seed: int = 0,
    resolution_nm: Nanometres | None = None,
    samples: Sequence[str] = SAMPLES,
    padding: Voxels = (0, 0, 0),
) -> Written:
    """Writes made-up tissue, whole or not at all: the voxels of `synthetic_volume`.

    Memory is that of a few sections, whatever the shape.

    Args:
        format: one of `FORMATS`; the module's docstring says what each writes.
        output: a folder. Where the files go, below it, nothing may be yet.
        shape: (sections, height, width) of the labels, and of the image without padding.
        seed: what to make. Sample B of cremi has the next seed, C the one after.
        resolution_nm: voxel size (z, y, x) in nm; (40, 4, 4), or what isbi12 and isbi13 have.
        samples: of cremi, some of A, B, C.
        padding: of cremi, (z, y, x): so much tissue without labels on each side.

    Raises:
        InputError: arguments out of range, something stands where the output is to go, or it cannot
            be written, for instance because the disk is full.
    """
    if resolution_nm is None:
        resolution_nm = _RESOLUTION_NM.get(format, (40, 4, 4))
    _check(format, shape, seed, resolution_nm, samples, padding)
    folder = Path(output) / ('cremi' if format == 'cremi' else _NAMES[format][0])
    with _new_folder(folder) as partial:
        if format == 'cremi':
            names = _write_samples(partial, shape, seed, resolution_nm, samples, padding)
        else:
            names = _write_volume(format, partial, shape, seed, resolution_nm)
    paths = [folder / name for name in names]
    return Written(
        tuple(dict.fromkeys(paths)),  # hdf5 has both in one file
        _command(format, Path(output), paths, shape, resolution_nm, samples),
    )


def _check(
    format: str,
    shape: Voxels,
    seed: int,
    resolution_nm: Nanometres,
    samples: Sequence[str],
    padding: Voxels,
) -> None:
    if format not in FORMATS:
        raise InputError(f'Expected a format of {", ".join(FORMATS)}; found {format!r}.')
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(
            f'Expected a shape (sections, height, width) above 0, found {tuple(shape)}.'
        )
    if seed < 0:
        raise InputError(f'Expected a seed of 0 or above, found {seed}.')
    if len(resolution_nm) != 3 or not all(0 < nm < math.inf for nm in resolution_nm):
        raise InputError(
            f'Expected a resolution (z, y, x) in nm above 0, found {tuple(resolution_nm)}.'
        )
    if len(padding) != 3 or min(padding) < 0:
        raise InputError(
            f'Expected a padding (z, y, x) in voxels of 0 or above, found {tuple(padding)}.'
        )
    if not samples or set(samples) - set(SAMPLES) or len(set(samples)) < len(samples):
        raise InputError(
            f'Expected samples out of {", ".join(SAMPLES)}, each once; found '
            f'{", ".join(samples) or "none"}.'
        )
    if format != 'cremi' and (any(padding) or tuple(samples) != SAMPLES):
        raise InputError(f'Padding and samples are of the format cremi only, not of {format}.')


def _write_samples(
    folder: Path,
    shape: Voxels,
    seed: int,
    resolution_nm: Nanometres,
    samples: Sequence[str],
    padding: Voxels,
) -> list[str]:
    """Writes CREMI's files; their names."""
    depth, height, width = (n + 2 * p for n, p in zip(shape, padding, strict=True))
    padded = '_padded' if any(padding) else ''
    names = [f'sample_{sample}{padded}_20160501.hdf' for sample in samples]
    with contextlib.closing(_progress(len(names) * depth)) as progress:
        for name, sample in zip(names, samples, strict=True):
            seed_of_sample = seed + SAMPLES.index(sample)
            whole = (depth, height, width)
            image, ids = _tissue(seed_of_sample, whole, resolution_nm, name, progress)
            labels = _inner(ids, shape, padding)
            path = folder / name
            write_cremi(
                path,
                image,
                labels,
                resolution_nm=resolution_nm,
                padding=padding,
                synthetic=True,
            )
    return names


def _write_volume(
    format: str, folder: Path, shape: Voxels, seed: int, resolution_nm: Nanometres
) -> list[str]:
    """Writes an image and its labels; their names."""
    names = list(_NAMES[format][1:])
    with contextlib.closing(_progress(shape[0])) as progress:
        image, ids = _tissue(seed, shape, resolution_nm, format, progress)
        if format == 'hdf5':
            write_cremi(folder / names[0], image, ids, resolution_nm=resolution_nm, synthetic=True)
            return names
        if format == 'png' and ids.dtype != np.uint16:
            raise InputError(
                f'Sections of shape {tuple(shape[1:])} have more ids than the 65535 of a PNG file; '
                'choose another format.'
            )
        image, ids = _on_disk(folder, image, ids)
    if format == 'isbi12':
        ids = _mapped(ids, np.uint8, lambda section: np.where(section == 0, 0, 255))
    if format == 'precomputed':  # whose segmentations have no smaller type
        ids = _mapped(ids, np.uint32, lambda section: section)
    for name, array in zip(names, (image, ids), strict=True):
        print(f'Writing {name}.', file=sys.stderr)
        write_array(
            folder / name,
            array,
            format='tiff' if format in ('isbi12', 'isbi13') else format,
            resolution_nm=None if format == 'png' else resolution_nm,
        )
    return names


def _progress(sections: int) -> Progress:
    # Imported late: TensorBoard's writer, which comes along, is slow to import.
    from taclnet_jax.progress import Progress

    return Progress(0, sections, 'section')


def _tissue(
    seed: int, shape: Voxels, resolution_nm: Nanometres, name: str, progress: Progress
) -> tuple[Sections, Sections]:
    """(image, ids): stacks to be read in step, so that each section is made once."""
    tissue = SyntheticTissue(seed, shape[1:], resolution_nm)

    @functools.lru_cache(maxsize=1)
    def section(z: int) -> tuple[np.ndarray, np.ndarray]:
        made = tissue.section(z)
        progress.step(name)
        return made

    return (
        LazySections(shape, np.uint8, lambda z, *crop: section(z)[0][crop]),
        LazySections(shape, tissue.id_type, lambda z, *crop: section(z)[1][crop]),
    )


def _inner(sections: Sections, shape: Voxels, padding: Voxels) -> Sections:
    def read(z: int, *crop: slice) -> np.ndarray:
        rows, columns = (
            slice(s.start + p, s.stop + p) for s, p in zip(crop, padding[1:], strict=True)
        )
        return sections[z + padding[0], rows, columns]

    return LazySections(shape, sections.dtype, read)


def _mapped(
    sections: Sections, dtype: DTypeLike, function: Callable[[np.ndarray], np.ndarray]
) -> Sections:
    return LazySections(sections.shape, dtype, lambda z, *crop: function(sections[z, *crop]))


def _on_disk(folder: Path, *stacks: Sections) -> list[np.ndarray]:
    """Reads stacks in step, once, into files without a name, which end with their use."""
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in stacks]
        for z in range(stacks[0].shape[0]):
            for file, stack in zip(files, stacks, strict=True):
                file.write(stack[z].tobytes())
        for file in files:
            file.flush()
        return [
            np.memmap(file, stack.dtype, 'r', shape=stack.shape)
            for file, stack in zip(files, stacks, strict=True)
        ]


def _command(
    format: str,
    output: Path,
    paths: Sequence[Path],
    shape: Voxels,
    resolution_nm: Nanometres,
    samples: Sequence[str],
) -> str:
    """A shell command that trains on what was written."""
    if format in ('cremi', 'isbi12', 'isbi13'):
        config = format
        settings: dict[str, object] = {'data_dir': output.absolute()}
        if format == 'cremi' and tuple(samples) != SAMPLES:
            settings['cremi.samples'] = tuple(samples)
    else:
        config = 'custom'
        image, labels = (path.absolute() for path in paths)
        settings = {'custom.image': image, 'custom.labels': labels, 'custom.label_kind': 'ids'}
        if format == 'hdf5':
            settings |= {'custom.image_dataset': RAW, 'custom.labels_dataset': IDS}
        if format == 'png':  # has no place for it
            settings['custom.resolution_nm'] = tuple(float(nm) for nm in resolution_nm)
    if min(shape[1:]) < 2 * _CROP:  # too small to be halved
        settings['downsample'] = 1
    if min(shape[1:]) < _CROP:
        settings['crop'] = tuple(min(n, _CROP) for n in shape[1:])
    flags = [f'--config=configs/{config}.py']
    flags += [f'--config.{key}={value}' for key, value in settings.items()]
    flags += [f'--workdir=runs/{config}']
    return shlex.join(['python', '-m', 'taclnet_jax.main', *flags])


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write to, which becomes `folder` when all went well; `folder` may be empty."""
    folder = folder.absolute()
    above = next((place for place in folder.parents if place.exists()), folder)
    partial = above / f'.{folder.name}.{os.getpid()}.partial'
    try:
        if not above.is_dir():
            raise InputError(f'Expected {above} to be a folder, found a file; choose another.')
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            found = 'a folder with files in it' if folder.is_dir() else 'a file'
            raise InputError(
                f'Expected {folder} not to exist yet, found {found}; remove it or choose another '
                'output.'
            )
        partial.mkdir()
        yield partial
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial, folder)
    except OSError as error:
        raise InputError(
            f'Cannot write {folder}: {error.strerror or error}; nothing was changed there.'
        ) from error
    except MemoryError as error:
        raise InputError(
            'A few sections of this shape do not fit into memory; make smaller ones.'
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _run() -> None:
    """The command; its flags are defined only where it is one."""
    from absl import flags

    from taclnet_jax import commandline

    format_flag = flags.DEFINE_enum('format', None, FORMATS, 'What to write; see above.')
    output = flags.DEFINE_string('output', None, 'Folder to write to.')
    shape = flags.DEFINE_list(
        'shape', ['24', '256', '256'], 'Sections, height, width; of CREMI 125,1250,1250.'
    )
    seed = flags.DEFINE_integer('seed', 0, 'What to make: another seed, another tissue.')
    resolution = flags.DEFINE_list(
        'resolution',
        [],
        'Voxel size z,y,x in nm, which the sizes of cells follow. Without it 40,4,4; for isbi12 '
        '50,4,4 and for isbi13 30,6,6.',
    )
    samples = flags.DEFINE_list('samples', list(SAMPLES), 'Which samples of cremi to write.')
    padding = flags.DEFINE_list(
        'padding',
        ['0', '0', '0'],
        "z,y,x in voxels: cremi's raw goes on so far around the labels on each side.",
    )

    def main() -> None:
        if format_flag.value is None:
            raise InputError(f'Expected --format, one of {", ".join(FORMATS)}. See --help.')
        if not output.value:
            raise InputError('Expected --output, the folder to write to. See --help.')
        written = synthesize(
            format_flag.value,
            output.value,
            shape=_numbers('shape', shape.value or [], int),
            seed=seed.value,
            resolution_nm=_numbers('resolution', resolution.value or [], float) or None,
            samples=samples.value or [],
            padding=_numbers('padding', padding.value or [], int),
        )
        print('Written:', *written.paths, sep='\n  ')
        print('Train on it with', written.command, sep='\n\n')

    commandline.run(main, __doc__, (format_flag, output, shape, seed, resolution, samples, padding))


def _numbers(flag: str, values: Sequence[str], kind: type) -> Any:
    try:
        return tuple(kind(value) for value in values)
    except ValueError:
        raise InputError(
            f'Expected --{flag} as three numbers z,y,x such as 40,4,4; found {",".join(values)}.'
        ) from None


if __name__ == '__main__':
    _run()
