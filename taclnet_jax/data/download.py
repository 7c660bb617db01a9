"""Fetches published files, whole or not at all."""

import os
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pooch

from taclnet_jax.errors import InputError
from taclnet_jax.files import check_space, explained, replacing

TIMEOUTS_S = 15.0, 60.0
"""To connect, and between two pieces of the file."""
RETRIES = 3

_SETTING = 'config.data_dir'


def fetch(
    url: str, folder: Path, name: str, *, mirror: str = '', sha256: str | None = None
) -> Path:
    """Downloads a file; does nothing where it is there already.

    Args:
        url: the publisher's address, http or https; certificates are always verified.
        folder: of raw files.
        name: the file's place in it, such as `cremi/sample_A_20160501.hdf`.
        mirror: address of such a folder on another web server, to download from instead.
        sha256: of the contents, in hexadecimal; None = not known.

    Returns:
        The file's path.

    Raises:
        InputError: it cannot be had, or is another file; says where to place it by hand.
    """
    path = folder / name
    if path.exists():
        return path
    url = f'{mirror.rstrip("/")}/{name}' if mirror else url

    def check(response: Any, **options: object) -> None:
        if response.ok and not response.is_redirect:
            if response.headers.get('Content-Type', '').startswith('text/html'):
                raise OSError('the server answers with a web page instead of the file')
            check_space(path, int(response.headers.get('Content-Length', 0)), _SETTING)

    def download(url: str, file: str, pooch_: object) -> None:
        os.remove(file)  # only its owner might read it; one made anew is as the umask has it
        pooch.HTTPDownloader(
            progressbar=sys.stderr.isatty(),
            chunk_size=2**16,
            timeout=TIMEOUTS_S,
            headers={'Accept-Encoding': 'identity'},
            hooks={'response': check},
        )(url, file, pooch_)

    source = pooch.create(
        path.parent, '', registry={path.name: sha256}, urls={path.name: url},
        retry_if_failed=RETRIES,
    )  # fmt: skip
    try:
        source.fetch(path.name, downloader=download)
    except (OSError, ValueError) as error:  # what requests raises is one of them, too
        raise InputError(
            f'Cannot download {url}: {_reason(error)}. Start the same command again later, choose '
            f'another folder with {_SETTING}, or get the file another way (a browser, another '
            f'network) and place it at {path}.'
        ) from error
    return path


def unpack(archive: Path, name: str, path: Path, check: Callable[[Path], None]) -> None:
    """Extracts the file of this name, from whichever folder inside a zip, whole or not at all.

    Nothing is written but `path`, whatever the archive says about folders.

    Args:
        archive: the zip.
        name: the file's name, without a folder.
        path: where it shall lie.
        check: is given the file before it takes its place, and may refuse it.

    Raises:
        InputError: the archive is damaged or holds not one such file, or `path` cannot be written.
    """
    try:
        with explained(path), zipfile.ZipFile(archive) as file, replacing(path) as partial:
            # A Mac adds a folder with a shadow of each file.
            names = [each for each in file.namelist() if '__MACOSX/' not in each]
            found = [each for each in names if each.split('/')[-1] == name]
            if len(found) != 1:
                raise InputError(
                    f'Expected one file {name} in {archive}, found {len(found)}; it holds '
                    f'{", ".join(names[:12]) or "nothing"}.'
                )
            check_space(path, file.getinfo(found[0]).file_size, _SETTING)
            with file.open(found[0]) as source, partial.open('wb') as target:
                shutil.copyfileobj(source, target, 2**20)
            check(partial)
    # The last one is zipfile's for ways of compressing and encrypting that it does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise InputError(
            f'{archive} is damaged or no zip archive ({error}); remove it and start the same '
            'command again.'
        ) from error


def _reason(error: BaseException) -> str:
    """What went wrong at the bottom: requests' own messages name every layer above."""
    while below := error.__cause__ or error.__context__:
        error = below
    return (getattr(error, 'strerror', None) or str(error)).rstrip('.')
