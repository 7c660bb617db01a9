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
1250x1250, so a volume may be larger than memory; all formats but cremi and hdf5 keep a copy on the
output's disk, 3 to 5 bytes a voxel, while they are written.
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
from taclnet_jax.progress import with_progress
from taclnet_jax.volumes import LazySections, local_folder, write_array
from taclnet_jax.volumes.sections import Triple, cropped

Voxels = tuple[int, int, int]  # (z, y, x), as all triples here

SAMPLES = ('A', 'B', 'C')

# Of each format the folder below the output and the files in it; those of cremi tell the sample.
_NAMES = {
    'cremi': ('cremi',),
    'isbi12': ('isbi12', 'train-volume.tif', 'train-labels.tif'),
    'isbi13': ('snemi3d', 'train-input.tif', 'train-labels.tif'),
    'tiff': ('', 'image.tif', 'labels.tif'),
    'png': ('', 'image', 'labels'),
    'hdf5': ('', 'volume.h5'),
    'zarr2': ('', 'image.zarr', 'labels.zarr'),
    'zarr3': ('', 'image.zarr', 'labels.zarr'),
    'n5': ('', 'image.n5', 'labels.n5'),
    'precomputed': ('', 'image.precomputed', 'labels.precomputed'),
}
FORMATS = tuple(_NAMES)
_CROP = 156  # of the configurations, in pixels
# What the data sets' readers take for granted.
_RESOLUTION_NM = {'isbi12': (50, 4, 4), 'isbi13': (30, 6, 6)}
# Of labels: booleans become 0 and 255; segmentations of precomputed have no smaller type.
_TYPES = {'isbi12': np.bool_, 'precomputed': np.uint32}


class Written(NamedTuple):
    """What `synthesize` has written."""

    paths: tuple[Path, ...]  # files, or the folders of formats that are folders
    command: str  # for a shell: trains on them


def synthesize(
    format: str,
    output: str | os.PathLike[str],
    *,
    shape: Voxels = (24, 256, 256),
    seed: int = 0,
    resolution_nm: Triple | None = None,
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
        InputError: arguments out of range, or the output's place is taken or cannot be written.
    """
    nm = resolution_nm or _RESOLUTION_NM.get(format, (40, 4, 4))
    _check(format, shape, nm, samples, padding)
    below, *names = _NAMES[format]
    seeds = [seed]
    if format == 'cremi':
        padded = '_padded' if any(padding) else ''
        names = [f'sample_{sample}{padded}_20160501.hdf' for sample in samples]
        seeds = [seed + SAMPLES.index(sample) for sample in samples]
    folder = local_folder(output, '--output') / below
    if folder.is_file() or folder.is_dir() and any(folder.iterdir()):
        found = 'a folder with files in it' if folder.is_dir() else 'a file'
        raise InputError(
            f'Expected {folder.absolute()} not to exist yet, found {found}; remove it or choose '
            'another output.'
        )
    depth, *sides = (n + 2 * p for n, p in zip(shape, padding, strict=True))
    try:
        with explained(folder), replacing(folder) as partial:
            partial.mkdir()
            tissues = [SyntheticTissue(each, (sides[0], sides[1]), nm) for each in seeds]
            if format not in ('cremi', 'hdf5'):
                _write_volume(format, [partial / name for name in names], tissues[0], depth)
            else:
                for name, tissue in zip(names, tissues, strict=True):
                    _write_sample(partial / name, tissue, shape, padding)
    except MemoryError as error:
        raise InputError(
            'A few sections of this shape do not fit into memory; make smaller ones.'
        ) from error
    paths = tuple(folder / name for name in names)
    return Written(paths, _command(format, paths, shape, nm, samples))


def _check(format: str, shape: Voxels, nm: Triple, samples: Sequence[str], padding: Voxels) -> None:
    if format not in FORMATS:
        raise InputError(f'Expected a format of {", ".join(FORMATS)}; found {format!r}.')
    for expected, found, above in (
        ('a shape (sections, height, width) above 0', shape, 0),
        ('a resolution (z, y, x) in nm above 0', nm, 0),
        ('a padding (z, y, x) in voxels of 0 or above', padding, -1),
    ):
        if len(found) != 3 or not all(above < n < math.inf for n in found):
            raise InputError(f'Expected {expected}; found {tuple(found)}.')
    if not 0 < len(samples) == len(set(samples) & set(SAMPLES)):
        raise InputError(
            f'Expected samples out of {", ".join(SAMPLES)}, each once; found '
            f'{", ".join(samples) or "none"}.'
        )
    if format != 'cremi' and (any(padding) or tuple(samples) != SAMPLES):
        raise InputError(f'Padding and samples are of the format cremi only, not of {format}.')


def _write_sample(path: Path, tissue: SyntheticTissue, shape: Voxels, padding: Voxels) -> None:
    """Writes an image with ids in its inner part, of this shape, to one file in CREMI's layout."""
    section = functools.lru_cache(maxsize=1)(tissue.section)  # its image and ids are read in turn
    whole = (shape[0] + 2 * padding[0], *tissue.shape)
    ids = LazySections(whole, tissue.id_type, lambda z, *crop: section(z)[1][crop])
    write_cremi(
        path,
        LazySections(whole, np.uint8, lambda z, *crop: section(z)[0][crop]),
        cropped(ids, padding, shape),
        resolution_nm=tissue.resolution_nm,
        padding=padding,
        synthetic=True,
    )


def _write_volume(format: str, paths: Sequence[Path], tissue: SyntheticTissue, depth: int) -> None:
    """Writes an image and its labels, after sections made once went to files without a name."""
    types = np.uint8, _TYPES.get(format, tissue.id_type)
    if format == 'png' and types[1] != np.uint16:
        raise InputError(
            f'Sections of shape {tissue.shape} have more ids than the 65535 of a PNG file; choose '
            'another format.'
        )
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context(tempfile.TemporaryFile(dir=p.parent)) for p in paths]
        for z in with_progress(range(depth), depth, format, 'section'):
            for file, dtype, made in zip(files, types, tissue.section(z), strict=True):
                file.write(made.astype(dtype).tobytes())
        for path, file, dtype in zip(paths, files, types, strict=True):
            file.flush()
            print(f'Writing {path.name}.', file=sys.stderr)
            write_array(
                path,
                np.memmap(file, dtype, 'r', shape=(depth, *tissue.shape)),
                format='tiff' if format in _RESOLUTION_NM else format,
                resolution_nm=None if format == 'png' else tissue.resolution_nm,
            )


def _command(
    format: str, paths: Sequence[Path], shape: Voxels, nm: Triple, samples: Sequence[str]
) -> str:
    """A shell command that trains on what was written."""
    own = not _NAMES[format][0]
    config = 'custom' if own else format
    image, labels, side = paths[0].absolute(), paths[-1].absolute(), min(shape[1:])
    flags = [
        f'--config.{key}={value}'
        for needed, key, value in (
            (not own, 'data_dir', image.parents[1]),
            (tuple(samples) != SAMPLES, 'cremi.samples', tuple(samples)),
            (own, 'custom.image', image),
            (own, 'custom.labels', labels),
            (own, 'custom.label_kind', 'ids'),
            (format == 'hdf5', 'custom.image_dataset', RAW),
            (format == 'hdf5', 'custom.labels_dataset', IDS),
            (format == 'png', 'custom.resolution_nm', tuple(map(float, nm))),  # has no place for it
            (side < 2 * _CROP, 'downsample', 1),  # too small to be halved
            (side < _CROP, 'crop', tuple(min(n, _CROP) for n in shape[1:])),
        )
        if needed
    ]
    flags = [f'--config={config}', *flags, f'--workdir=runs/{config}']
    return shlex.join(['python', '-m', 'taclnet_jax.main', *flags])


def _run() -> None:
    from absl import flags

    from taclnet_jax import commandline

    holders = format, output, shape, seed, resolution, samples, padding = (
        flags.DEFINE_enum('format', None, FORMATS, 'What to write; see above.'),
        flags.DEFINE_string('output', None, 'Folder to write to.'),
        flags.DEFINE_list(
            'shape', '24,256,256', 'Sections, height, width; of CREMI 125,1250,1250.'
        ),
        flags.DEFINE_integer('seed', 0, 'What to make: another seed, another tissue.'),
        flags.DEFINE_list(
            'resolution',
            '',
            'Voxel size z,y,x in nm, which the sizes of cells follow. Without it 40,4,4; for '
            'isbi12 50,4,4 and for isbi13 30,6,6.',
        ),
        flags.DEFINE_list('samples', 'A,B,C', 'Which samples of cremi to write.'),
        flags.DEFINE_list(
            'padding',
            '0,0,0',
            "z,y,x in voxels: cremi's raw goes on so far around the labels on each side.",
        ),
    )

    def main() -> None:
        if format.value is None or not output.value:
            formats = ', '.join(FORMATS)
            raise InputError(f'Expected --format, one of {formats}, and --output. See --help.')
        written = synthesize(
            format.value,
            output.value,
            shape=_numbers(shape, int),
            seed=seed.value,
            resolution_nm=_numbers(resolution, float),
            samples=samples.value or [],
            padding=_numbers(padding, int),
        )
        print('Written:', *written.paths, sep='\n  ')
        print('Train on it with', written.command, sep='\n\n')

    commandline.run(main, __doc__, holders)


def _numbers(flag: Any, kind: type) -> Any:
    try:
        return tuple(map(kind, flag.value or ()))
    except ValueError:
        raise InputError(
            f'Expected --{flag.name} as three numbers z,y,x such as 40,4,4; found '
            f'{",".join(flag.value)}.'
        ) from None


if __name__ == '__main__':
    _run()
