"""Writes made-up tissue with exact labels, in the format that you want to try.

    python -m taclnet_jax.tools.synthesize --format=zarr3 --output=tissue --shape=24,256,256

As the files of a published data set, for config.data_dir=<output>:
  cremi         <output>/cremi/sample_A_20160501.hdf and so on, another seed a sample; with
                --padding sample_A_padded_20160501.hdf, whose raw goes on around the labels
  isbi12        <output>/isbi12/train-volume.tif, train-labels.tif: 0 = membrane, 255 = interior
  isbi13        <output>/snemi3d/train-input.tif, train-labels.tif: instance ids
As a volume of your own, for --config=custom: an image and its instance ids (0 = membrane), in
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

import contextlib
import functools
import math
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from taclnet_jax.data.cremi_file import IDS, RAW, write_cremi
from taclnet_jax.data.synthetic import SyntheticTissue
from taclnet_jax.errors import InputError
from taclnet_jax.files import explained, replacing
from taclnet_jax.progress import Progress
from taclnet_jax.volumes import LazySections, Sections, write_array
from taclnet_jax.volumes.sections import cropped, mapped

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


class Wanted(NamedTuple):
    """What to write, as `synthesize` takes it."""

    shape: Voxels
    seed: int
    resolution_nm: Nanometres
    samples: Sequence[str]
    padding: Voxels


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
    wanted = Wanted(shape, seed, resolution_nm, samples, padding)
    _check(format, wanted)
    folder = Path(output) / ('cremi' if format == 'cremi' else _NAMES[format][0])
    _check_free(folder.absolute())
    try:
        with explained(folder), replacing(folder) as partial:
            partial.mkdir()
            if format == 'cremi':
                names = _write_samples(partial, wanted)
            else:
                names = _write_volume(format, partial, wanted)
    except MemoryError as error:
        raise InputError(
            'A few sections of this shape do not fit into memory; make smaller ones.'
        ) from error
    paths = [folder / name for name in names]
    # hdf5 has both in one file.
    return Written(tuple(dict.fromkeys(paths)), _command(format, Path(output), paths, wanted))


def _check(format: str, wanted: Wanted) -> None:
    shape, seed, resolution_nm, samples, padding = wanted
    for fits, expected, found in (
        (format in FORMATS, f'a format of {", ".join(FORMATS)}', repr(format)),
        (
            len(shape) == 3 and all(n > 0 for n in shape),
            'a shape (sections, height, width) above 0',
            tuple(shape),
        ),
        (seed >= 0, 'a seed of 0 or above', seed),
        (
            len(resolution_nm) == 3 and all(0 < nm < math.inf for nm in resolution_nm),
            'a resolution (z, y, x) in nm above 0',
            tuple(resolution_nm),
        ),
        (
            len(padding) == 3 and all(n >= 0 for n in padding),
            'a padding (z, y, x) in voxels of 0 or above',
            tuple(padding),
        ),
        (
            0 < len(samples) == len(set(samples) & set(SAMPLES)),
            f'samples out of {", ".join(SAMPLES)}, each once',
            ', '.join(samples) or 'none',
        ),
    ):
        if not fits:
            raise InputError(f'Expected {expected}; found {found}.')
    if format != 'cremi' and (any(padding) or tuple(samples) != SAMPLES):
        raise InputError(f'Padding and samples are of the format cremi only, not of {format}.')


def _check_free(folder: Path) -> None:
    """Refuses to write where something stands."""
    if folder.is_file() or folder.is_dir() and any(folder.iterdir()):
        found = 'a folder with files in it' if folder.is_dir() else 'a file'
        raise InputError(
            f'Expected {folder} not to exist yet, found {found}; remove it or choose another '
            'output.'
        )


def _write_samples(folder: Path, wanted: Wanted) -> list[str]:
    """Writes CREMI's files; their names."""
    shape, seed, resolution_nm, samples, padding = wanted
    depth, height, width = (n + 2 * p for n, p in zip(shape, padding, strict=True))
    padded = '_padded' if any(padding) else ''
    names = [f'sample_{sample}{padded}_20160501.hdf' for sample in samples]
    with contextlib.closing(Progress(0, len(names) * depth, 'section')) as progress:
        for name, sample in zip(names, samples, strict=True):
            whole = wanted._replace(seed=seed + SAMPLES.index(sample), shape=(depth, height, width))
            image, ids = _tissue(whole, name, progress)
            write_cremi(
                folder / name,
                image,
                cropped(ids, padding, shape),
                resolution_nm=resolution_nm,
                padding=padding,
                synthetic=True,
            )
    return names


def _write_volume(format: str, folder: Path, wanted: Wanted) -> list[str]:
    """Writes an image and its labels; their names."""
    names = list(_NAMES[format][1:])
    nm = wanted.resolution_nm
    with contextlib.closing(Progress(0, wanted.shape[0], 'section')) as progress:
        image, ids = _tissue(wanted, format, progress)
        if format == 'hdf5':
            write_cremi(folder / names[0], image, ids, resolution_nm=nm, synthetic=True)
            return names
        if format == 'png' and ids.dtype != np.uint16:
            raise InputError(
                f'Sections of shape {tuple(wanted.shape[1:])} have more ids than the 65535 of a '
                'PNG file; choose another format.'
            )
        image, ids = _on_disk(folder, image, ids)
    if format == 'isbi12':
        ids = mapped(ids, np.uint8, lambda crop: np.where(crop == 0, 0, 255))
    if format == 'precomputed':  # whose segmentations have no smaller type
        ids = mapped(ids, np.uint32, lambda crop: crop)
    for name, array in zip(names, (image, ids), strict=True):
        print(f'Writing {name}.', file=sys.stderr)
        write_array(
            folder / name,
            array,
            format='tiff' if format in ('isbi12', 'isbi13') else format,
            resolution_nm=None if format == 'png' else nm,
        )
    return names


def _tissue(wanted: Wanted, name: str, progress: Progress) -> tuple[Sections, Sections]:
    """(image, ids): stacks to be read in step, so that each section is made once."""
    tissue = SyntheticTissue(wanted.seed, wanted.shape[1:], wanted.resolution_nm)

    @functools.lru_cache(maxsize=1)
    def section(z: int) -> tuple[np.ndarray, np.ndarray]:
        made = tissue.section(z)
        progress.step(name)
        return made

    return (
        LazySections(wanted.shape, np.uint8, lambda z, *crop: section(z)[0][crop]),
        LazySections(wanted.shape, tissue.id_type, lambda z, *crop: section(z)[1][crop]),
    )


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


def _command(format: str, output: Path, paths: Sequence[Path], wanted: Wanted) -> str:
    """A shell command that trains on what was written."""
    sides = wanted.shape[1:]
    if format in ('cremi', 'isbi12', 'isbi13'):
        config = format
        settings: dict[str, object] = {'data_dir': output.absolute()}
        if format == 'cremi' and tuple(wanted.samples) != SAMPLES:
            settings['cremi.samples'] = tuple(wanted.samples)
    else:
        config = 'custom'
        image, labels = (path.absolute() for path in paths)
        settings = {'custom.image': image, 'custom.labels': labels, 'custom.label_kind': 'ids'}
        if format == 'hdf5':
            settings |= {'custom.image_dataset': RAW, 'custom.labels_dataset': IDS}
        if format == 'png':  # has no place for it
            settings['custom.resolution_nm'] = tuple(map(float, wanted.resolution_nm))
    if min(sides) < 2 * _CROP:  # too small to be halved
        settings['downsample'] = 1
    if min(sides) < _CROP:
        settings['crop'] = tuple(min(n, _CROP) for n in sides)
    flags = [f'--config={config}', *(f'--config.{key}={x}' for key, x in settings.items())]
    return shlex.join(['python', '-m', 'taclnet_jax.main', *flags, f'--workdir=runs/{config}'])


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
