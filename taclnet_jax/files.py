"""Files that are written whole or not at all, JSON that may be anything, and what has changed."""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taclnet_jax.errors import InputError


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(data)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Gives a name to write to; what is written there takes the target's place at the end.

    Missing folders above the target are made at the end, too. After an exception, an interrupt
    included, everything is as it was.

    Args:
        target: a file or a folder. An older one of the same kind is replaced, with all that is in
            it; a file never replaces a folder, nor a folder a file. A link stays, and what it leads
            to is replaced.

    Yields:
        A name that is not taken, for a file or a folder, beside the target or in the nearest folder
        above it that exists.
    """
    target = Path(os.path.realpath(target))
    partial = _nearest_folder(target) / f'.{target.name}.{secrets.token_hex(4)}.partial'
    try:
        yield partial
        target.parent.mkdir(parents=True, exist_ok=True)
        publish(partial, target)
    finally:
        with contextlib.suppress(OSError):
            if partial.is_dir():
                shutil.rmtree(partial)
            else:
                partial.unlink()


def publish(partial: Path, target: Path) -> None:
    """Moves a complete file or folder to its place on the same disk."""
    if not partial.is_dir():
        with partial.open('rb') as file:
            os.fsync(file.fileno())  # else a crash may leave the new name without the contents
        os.replace(partial, target)
    elif target.is_dir():
        old = partial.with_suffix('.old')
        os.rename(target, old)
        try:
            os.rename(partial, target)
        except BaseException:
            os.rename(old, target)
            raise
        shutil.rmtree(old)
    else:
        os.rename(partial, target)


def parse_json(text: str | bytes) -> Any:
    """What JSON of whatever origin says.

    Raises:
        ValueError: it is none, or lies deeper than Python follows.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError('its brackets lie too deep') from error


DAMAGED_ARRAYS = (
    OSError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy raises when it reads a damaged .npz."""


def stamp(path: str) -> str:
    """Changes when a file, or any file inside a folder, is written.

    '' of an address, and of no path: what lies at an address is taken to stay as it is.
    """
    if not path or '://' in path:
        return ''
    digest, place = hashlib.sha256(), Path(path)
    for file in sorted(_files_in(place, set())) if place.is_dir() else [place]:
        if file.exists():  # a link may lead nowhere
            about = file.stat()
            digest.update(f'{file} {about.st_size} {about.st_mtime_ns}\n'.encode(errors='replace'))
    return digest.hexdigest()


def _files_in(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """All files below a folder, behind links too, of each folder once."""
    with contextlib.suppress(OSError):  # of what cannot be listed nothing is read either
        for path in folder.iterdir():
            if not path.is_dir():
                yield path
            elif (place := (path.stat().st_dev, path.stat().st_ino)) not in seen:
                seen.add(place)
                yield from _files_in(path, seen)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what the system says while `path` is written into one message.

    Raises:
        InputError: there was an OSError.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f'Cannot write {path}: {error.strerror or error}; nothing was changed there.'
        ) from error


def check_space(path: Path, need: int, setting: str) -> None:
    """Refuses to begin a file or folder of `need` bytes that will not fit on the disk.

    Raises:
        InputError: less is free; says which setting names the folder.
    """
    free = shutil.disk_usage(_nearest_folder(path)).free
    if need > free:
        raise InputError(
            f'{path.name} needs {need / 1e6:.1f} MB more in {path.parent}, where '
            f'{free / 1e6:.1f} MB are free; make room there or choose another folder with '
            f'{setting}.'
        )


def _nearest_folder(path: Path) -> Path:
    """The nearest folder above a path that exists."""
    return next(above for above in path.absolute().parents if above.exists())
