"""Folders of PNG or TIFF files, one file a section."""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from taclnet_jax.errors import InputError, doubt
from taclnet_jax.files import replacing
from taclnet_jax.volumes.claims import check_claim
from taclnet_jax.volumes.sections import Content, Geometry, StoredArray, check_stack, problems_of
from taclnet_jax.volumes.tiff import open_tiff

_TIFF = ('.tif', '.tiff')
SUFFIXES = ('.png', *_TIFF)
"""Of sections."""

_PNG_TYPES = {
    '1': np.dtype(bool),
    'L': np.dtype(np.uint8),
    'I;16': np.dtype(np.uint16),
    'P': np.dtype(np.uint8),
}
_INFLATION = 1100  # of deflate, at most
_WRITTEN_NAME = re.compile(r'\d{4,}\.png')


def open_section_files(path: Path, what: str) -> StoredArray:
    """Opens a folder of PNG or TIFF files in natural order (2 before 10), or one PNG file.

    Raises:
        InputError: there is none, or one differs from the others in size or type, is damaged, in
            colour or no single section.
    """
    files = _section_files(path) if path.is_dir() else [path]
    if not files:
        raise InputError(
            f'Expected the {what} in {path} as PNG or TIFF sections, or as zarr, N5 or '
            'precomputed, found none of their files there; check the path.'
        )
    tiff = files[0].suffix.lower() in _TIFF
    for file in files:
        if (file.suffix.lower() in _TIFF) != tiff:
            raise InputError(
                f'Expected the {what} sections in {path} as PNG or as TIFF, found both '
                f'({files[0].name}, {file.name}); keep one kind.'
            )
    if tiff:
        open_tiff(files[0], what)
    heads = [_tiff_head(file, what) if tiff else _png_head(file, what) for file in files]
    usual, count = Counter(heads).most_common(1)[0]
    describe = '{} x {} {}'.format
    for file, head in zip(files, heads, strict=True):
        if head != usual:
            raise InputError(
                f'Expected {what} sections of one size and type in {path}: {count} of '
                f'{len(files)} are {describe(*usual)}, but {file.name} is {describe(*head)}; '
                'remove or convert it.'
            )
    height, width, dtype = usual
    shape = len(files), height, width
    check_stack(shape, dtype, what, str(path))

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        if tiff:
            return open_tiff(files[z], what, try_decoding=False)[0, rows, columns]
        with _open_png(files[z], what) as image:
            return np.array(image)[rows, columns]

    stored = StoredArray(str(path), '', shape, dtype, read, Geometry(), _numbers(files, what, path))
    for z in stored.gaps:
        doubt(
            f'Sections are missing in the {what} {path}: {files[z].name} follows '
            f'{files[z - 1].name}. No window reaches across.'
        )
    return stored


def write_png_sections(path: Path, content: Content) -> None:
    """Writes 0000.png, 0001.png, ... into a folder that holds nothing else.

    Raises:
        InputError: there is something else in it.
    """
    if path.exists() and not all(map(_WRITTEN_NAME.fullmatch, os.listdir(path))):
        raise InputError(
            f'Cannot write {path} as PNG sections: there is a folder of that name with something '
            'else in it; choose another name or remove it.'
        )
    array = content.array
    digits = max(4, len(str(array.shape[0] - 1)))
    with replacing(path) as partial:
        partial.mkdir()
        for z in range(array.shape[0]):
            with open(partial / f'{z:0{digits}d}.png', 'wb') as file:
                Image.fromarray(np.ascontiguousarray(array[z])).save(file, 'png')
                file.flush()
                os.fsync(file.fileno())


def _section_files(folder: Path) -> list[Path]:
    def natural(path: Path) -> list[tuple[bool, int, str]]:
        parts = re.split(r'(\d+)', path.name.lower())
        return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]

    files = (path for path in folder.iterdir() if not path.name.startswith('.'))
    return sorted((path for path in files if path.suffix.lower() in SUFFIXES), key=natural)


def _numbers(files: list[Path], what: str, folder: Path) -> tuple[int, ...] | None:
    """The sections' numbers in the names of their files; None where there are none.

    Raises:
        InputError: most are named alike, and one is not.
    """
    names = [re.split(r'(\d+)', file.name.lower()) for file in files]
    texts = [tuple(name[::2]) for name in names]
    usual, count = Counter(texts).most_common(1)[0]
    if count < len(files):
        if 2 * count <= len(files):
            return None
        like, odd = (files[texts.index(text)].name for text in (usual, min(set(texts) - {usual})))
        raise InputError(
            f'Expected {what} sections that are named alike in {folder}; {count} of {len(files)} '
            f'are, as {like}, but not {odd}. Remove or rename it.'
        )
    columns = [tuple(map(int, column)) for column in zip(*(n[1::2] for n in names), strict=True)]
    # Other numbers, of the volume or the day, are the same in several names, or far apart.
    rising = [column for column in columns if list(column) == sorted(set(column))]
    return min(rising, key=np.ptp, default=None)


def _tiff_head(file: Path, what: str) -> tuple[int, int, np.dtype]:
    stack = open_tiff(file, what, try_decoding=False)
    if stack.shape[0] != 1:
        raise InputError(
            f'Expected one {what} section a file, found {stack.shape[0]} in {file}; give the path '
            'of a stack itself, or a folder of single sections.'
        )
    return *stack.shape[1:], stack.dtype


def _png_head(file: Path, what: str) -> tuple[int, int, np.dtype]:
    with _open_png(file, what) as image:
        return image.height, image.width, _PNG_TYPES[image.mode]


@contextlib.contextmanager
def _open_png(file: Path, what: str) -> Iterator[PngImagePlugin.PngImageFile]:
    # Not through Image.open: it takes sections of more than 9000 x 9000 pixels for an attack.
    with (
        problems_of(f'{what} section {file}', 'no PNG'),
        PngImagePlugin.PngImageFile(file) as image,
    ):
        # The indices of a palette are labels, and no grey values.
        if image.mode not in _PNG_TYPES or (what == 'image' and image.mode == 'P'):
            raise InputError(
                f'Expected grey {what} sections, found a colour image ({image.mode}) in {file}; '
                'convert it to one grey channel.'
            )
        pixel = _PNG_TYPES[image.mode].itemsize
        check_claim(image.height * image.width * pixel, file.stat().st_size, _INFLATION)
        yield image
