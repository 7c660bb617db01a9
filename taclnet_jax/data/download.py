"""Fetches published files: whole or not at all, going on where a broken download stopped."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import socket
import ssl
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

import requests
from tqdm import tqdm

from taclnet_jax.errors import InputError
from taclnet_jax.files import check_space, publish, replacing

CONNECT_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 60.0
# Attempts since something new came, that one included, and the pause after the first of them.
ATTEMPTS = 4
PAUSE_S = 1.0

_CHUNK_BYTES = 2**16
_SETTING = 'config.data_dir'
_FULL = (errno.ENOSPC, errno.EDQUOT)

Error = TypeVar('Error', bound=BaseException)


def address(url: str, name: str, mirror: str) -> str:
    """Where to download: the publisher's address, or the same file below a mirror's.

    Args:
        url: the publisher's.
        name: the file's place in a folder of raw files, such as `cremi/sample_A_20160501.hdf`: a
            mirror is such a folder on a web server.
        mirror: the mirror's address, '' = none.
    """
    return f'{mirror.rstrip("/")}/{name}' if mirror else url


def fetch(url: str, path: str | os.PathLike[str], *, sha256: str | None = None) -> Path:
    """Downloads a file; does nothing where it is there already.

    What has arrived waits in `<name>.partial` until it is complete and checked. A broken download
    goes on from there, in this call or a later one, if the server allows it and still has the same
    file (HTTP Range, If-Range). Of several processes one downloads and the others wait for it.

    Args:
        url: http or https; certificates are always verified.
        path: where the file shall lie.
        sha256: of the contents, in hexadecimal; None = not known.

    Returns:
        `path`.

    Raises:
        InputError: no network, no such file there, a certificate that is not valid, other contents
            than expected, no space left; says where to place the file by hand.
    """
    path = Path(path)
    if path.exists():
        return path
    partial = path.with_name(f'{path.name}.partial')
    version = path.with_name(f'{path.name}.partial.version')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(partial) as file:
            complete = False
            try:
                if not path.exists():  # else another process has brought it in the meantime
                    _Download(url, path, file, version).run()
                    complete = True
                    if sha256 is not None:
                        _check(partial, sha256, url, path)
                    publish(partial, path)
            finally:
                if complete or path.exists() or not os.fstat(file.fileno()).st_size:
                    partial.unlink(missing_ok=True)
                    version.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in _FULL:
            raise InputError(
                f'There is no space left for {path.name} in {path.parent}; make room there and '
                'start the same command again: the download goes on where it stopped.'
            ) from error
        raise InputError(
            f'Cannot write {path}: {error.strerror or error}; choose another folder with '
            f'{_SETTING}.'
        ) from error
    return path


def unpack(archive: Path, name: str, path: Path, check: Callable[[Path], None]) -> Path:
    """Extracts the file of this name, from whichever folder inside a zip, whole or not at all.

    Nothing is written but `path`, whatever the archive says about folders.

    Args:
        archive: the zip.
        name: the file's name, without a folder.
        path: where it shall lie.
        check: is given the file before it takes its place, and may refuse it.

    Raises:
        InputError: the archive is damaged or does not hold exactly one such file, or `path` cannot
            be written.
    """
    try:
        with zipfile.ZipFile(archive) as file, replacing(path) as partial:
            found = [
                info
                for info in file.infolist()
                # A Mac adds a folder with a shadow of each file.
                if info.filename.split('/')[-1] == name and '__MACOSX/' not in info.filename
            ]
            if len(found) != 1:
                raise InputError(
                    f'Expected one file {name} in {archive}, found {len(found)}; it holds '
                    f'{", ".join(file.namelist()[:12]) or "nothing"}.'
                )
            check_space(path, found[0].file_size, _SETTING)
            with file.open(found[0]) as source, partial.open('wb') as target:
                shutil.copyfileobj(source, target, 2**20)
            check(partial)
    # The last one is zipfile's for ways of compressing and encrypting that it does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise InputError(
            f'{archive} is damaged or no zip archive ({error}); remove it and start the same '
            'command again.'
        ) from error
    except OSError as error:
        raise InputError(
            f'Cannot unpack {name} from {archive} to {path}: {error.strerror or error}.'
        ) from error
    return path


class _Download:
    """One file on its way.

    Args:
        url: its address.
        path: its final place, for messages and free space.
        file: what has arrived so far, opened for appending without a buffer.
        version: where the server's mark (ETag or date) of what has arrived is kept.
    """

    def __init__(self, url: str, path: Path, file: BinaryIO, version: Path) -> None:
        self._url = url
        self._path = path
        self._file = file
        self._version = version
        self._position = file.seek(0, os.SEEK_END)

    def run(self) -> None:
        """Brings the whole file, in as many attempts as it takes."""
        print(f'Downloading {self._url} to {self._path}', file=sys.stderr, flush=True)
        with tqdm(
            desc=self._path.name,
            unit='B',
            unit_scale=True,
            dynamic_ncols=True,
            mininterval=0.2 if sys.stderr.isatty() else 10,
        ) as bar:
            farthest, failures = self._position, 0
            while True:
                try:
                    return self._receive(bar)
                except (requests.RequestException, _Unavailable) as error:
                    # A wrong address (to requests a ValueError) stays wrong, and so does this:
                    if isinstance(error, ValueError) or _cause(error, ssl.SSLCertVerificationError):
                        raise self._failed(_reason(error)) from error
                    if self._position > farthest:
                        farthest, failures = self._position, 0
                    failures += 1
                    if failures == ATTEMPTS:
                        raise self._failed(_reason(error)) from error
                    pause = PAUSE_S * 2 ** (failures - 1)
                    tqdm.write(
                        f'{self._path.name}: {_reason(error)}; trying again in {pause:g} s.',
                        file=sys.stderr,
                    )
                    time.sleep(pause)

    def _receive(self, bar: tqdm) -> None:
        """Asks for what is missing and appends it."""
        headers = {'Accept-Encoding': 'identity'}
        version = self._version.read_text() if self._position and self._version.exists() else ''
        if version:
            headers |= {'Range': f'bytes={self._position}-', 'If-Range': version}
        else:  # nothing tells whether the server still has the same file
            self._start_again()
        with requests.get(
            self._url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        ) as response:
            code = response.status_code
            if code in (408, 429) or code >= 500:
                raise _Unavailable(f'the server answers {code} {response.reason}')
            if code == 416:  # nothing lies beyond what we have: it is whole, or of another file
                if response.headers.get('Content-Range') == f'bytes */{self._position}':
                    return
                self._start_again()
                raise _Unavailable('the file on the server has changed')
            if code not in (200, 206):
                raise self._failed(f'the server answers {code} {response.reason}')
            if response.headers.get('Content-Type', '').startswith('text/html'):
                raise self._failed('the server answers with a web page instead of the file')
            if code == 200:
                self._start_again()
                self._version.write_text(_version(response))
            elif not self._goes_on(response, version):
                self._start_again()
                raise _Unavailable('the server sends another part than asked for')
            remaining = response.headers.get('Content-Length')
            if remaining is not None:
                check_space(self._path, int(remaining), _SETTING)
                bar.total = self._position + int(remaining)
            bar.n = bar.initial = self._position
            for chunk in response.iter_content(_CHUNK_BYTES):
                self._append(chunk)
                bar.update(len(chunk))
            if remaining is not None and self._position < bar.total:
                raise _Unavailable('the connection broke off')  # older urllib3 says nothing

    def _goes_on(self, response: requests.Response, version: str) -> bool:
        """Whether an answer begins where what we have ends, in the same file."""
        part = response.headers.get('Content-Range', '')
        return part.startswith(f'bytes {self._position}-') and _version(response) in ('', version)

    def _append(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:  # an unbuffered file may take a part of it only
            written = self._file.write(rest)
            self._position += written
            rest = rest[written:]

    def _start_again(self) -> None:
        if self._position:
            self._file.truncate(0)
            self._position = 0

    def _failed(self, reason: str) -> InputError:
        return InputError(
            f'Cannot download {self._url}: {reason}. Start the same command again later, or get '
            f'the file another way (a browser, another network) and place it at {self._path}.'
        )


class _Unavailable(Exception):
    """An answer that may be another one a little later."""


def _version(response: requests.Response) -> str:
    """What identifies the server's file in If-Range: a strong ETag, or else its date."""
    etag = response.headers.get('ETag', '')
    return etag if etag.startswith('"') else response.headers.get('Last-Modified', '')


def _check(partial: Path, sha256: str, url: str, path: Path) -> None:
    with partial.open('rb') as file:
        found = hashlib.file_digest(file, 'sha256').hexdigest()
    if found != sha256:
        raise InputError(
            f'Expected sha256 {sha256} of {url}, found {found}: it was damaged on the way, or is '
            'not the published file. What was downloaded has been removed; start the same command '
            f'again, or get the file another way and place it at {path}.'
        )


@contextlib.contextmanager
def _alone(partial: Path) -> Iterator[BinaryIO]:
    """Opens a file for appending while no other process has it, waiting for that."""
    while True:
        with partial.open('ab', buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f'Waiting for another process, which writes {partial}', file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:
                pass  # some network file systems have no locks
            if _is_at(file, partial):
                yield file
                return
            # The process before has moved or removed what was waited for.


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether the open file is the one at this place."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _cause(error: BaseException | None, kind: type[Error]) -> Error | None:
    """The exception of this kind behind another one."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def _reason(error: BaseException) -> str:
    """What went wrong, in a few words: requests' own messages name every layer below."""
    certificate = _cause(error, ssl.SSLCertVerificationError)
    if certificate is not None:
        return f"the server's certificate is not valid ({certificate.verify_message})"
    if _cause(error, socket.gaierror):
        return "the server's name is not known (no network?)"
    if isinstance(error, requests.Timeout) or _cause(error, TimeoutError):
        return 'the server does not answer in time'
    system = _cause(error, ConnectionError)
    if system is not None and system.strerror:
        return system.strerror
    if isinstance(error, requests.exceptions.ProxyError):
        return 'the proxy does not let it through'
    if isinstance(error, requests.RequestException) and not isinstance(error, ValueError):
        return 'the connection broke off'
    return str(error)
