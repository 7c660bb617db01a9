"""Folders of PNG or TIFF files, one file a section."""

import os
import re
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from taclnet_jax.errors import InputError
from taclnet_jax.files import replacing
from taclnet_jax.volumes.sections import Content, Geometry, StoredArray, check_stack
from taclnet_jax.volumes.tiff import open_tiff

PNG_SUFFIXES = ('.png',)
TIFF_SUFFIXES = ('.tif', '.tiff')
_PNG_TYPES = {'1': np.dtype(bool), 'L': np.dtype(np.uint8), 'I;16': np.dtype(np.uint16)}
_WRITTEN_NAME = re.compile(r'\d{4,}\.png')


def section_files(folder: Path) -> list[Path]:
    """The PNG and TIFF files of a folder in natural order: 2 before 10."""
    suffixes = PNG_SUFFIXES + TIFF_SUFFIXES
    files = [
        Path(entry.path)
        for entry in os.scandir(folder)
        if entry.name.lower().endswith(suffixes) and not entry.name.startswith('.')
    ]
    return sorted(files, key=_natural)


def open_section_files(path: Path, files: list[Path], what: str) -> StoredArray:
    """Opens files of one size and type as the sections of a stack.

    Args:
        path: their folder, or the only file.
        files: at least one PNG or TIFF file, in order.
        what: what they hold, for the messages.

    Raises:
        InputError: a file differs from the others, is damaged, in colour or no single section.
    """
    tiff = files[0].suffix.lower() in TIFF_SUFFIXES
    for file in files:
        if (file.suffix.lower() in TIFF_SUFFIXES) != tiff:
            raise InputError(
                f'Expected the {what} sections in {path} as PNG or as TIFF, found both '
                f'({files[0].name}, {file.name}); keep one kind.'
            )
    if tiff:
        open_tiff(files[0], what)
    heads = [_tiff_head(file, what) if tiff else _png_head(file, what) for file in files]
    usual, count = Counter(heads).most_common(1)[0]
    for file, head in zip(files, heads, strict=True):
        if head != usual:
            raise InputError(
                f'Expected {what} sections of one size and type in {path}: {count} of '
                f'{len(files)} are {_describe(usual)}, but {file.name} is {_describe(head)}; '
                'remove or convert it.'
            )
    (height, width), dtype = usual
    shape = len(files), height, width
    check_stack(shape, dtype, what, str(path))

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        if tiff:
            return open_tiff(files[z], what, try_decoding=False)[0, rows, columns]
        return _read_png(files[z], what)[rows, columns]

    return StoredArray(str(path), '', shape, dtype, read, Geometry())


def write_png_sections(path: Path, content: Content) -> None:
    """Writes 0000.png, 0001.png, ... into a folder that holds nothing else.

    Args:
        path: of the folder.
        content: uint8 or uint16.

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


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """Sorts by the numbers in the name, then by the name."""
    parts = re.split(r'(\d+)', path.name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _describe(head: tuple[tuple[int, int], np.dtype]) -> str:
    (height, width), dtype = head
    return f'{height} x {width} {dtype}'


def _tiff_head(file: Path, what: str) -> tuple[tuple[int, int], np.dtype]:
    stack = open_tiff(file, what, try_decoding=False)
    if stack.shape[0] != 1:
        raise InputError(
            f'Expected one {what} section a file, found {stack.shape[0]} in {file}; give the path '
            'of a stack itself, or a folder of single sections.'
        )
    return stack.shape[1:], stack.dtype


def _png_head(file: Path, what: str) -> tuple[tuple[int, int], np.dtype]:
    with _open_png(file, what) as image:
        return (image.height, image.width), _PNG_TYPES[image.mode]


def _read_png(file: Path, what: str) -> np.ndarray:
    with _open_png(file, what) as image:
        try:
            return np.array(image)
        except (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error) as error:
            raise _damaged(file, what, error) from error


def _open_png(file: Path, what: str) -> PngImagePlugin.PngImageFile:
    # Not through Image.open: it takes sections of more than 9000 x 9000 pixels for an attack.
    try:
        image = PngImagePlugin.PngImageFile(file)
    except OSError as error:
        if error.strerror is None:
            raise _damaged(file, what, error) from error
        raise InputError(f'Cannot read the {what} section {file}: {error.strerror}.') from error
    except (SyntaxError, ValueError, EOFError, zlib.error, struct.error) as error:
        raise _damaged(file, what, error) from error
    if image.mode not in _PNG_TYPES:
        image.close()
        raise InputError(
            f'Expected grey {what} sections, found a colour image ({image.mode}) in {file}; '
            'convert it to one grey channel.'
        )
    return image


def _damaged(file: Path, what: str, error: Exception) -> InputError:
    return InputError(
        f'The {what} section {file} is damaged or no PNG ({error}); copy or export it again.'
    )
