"""Where a prediction goes: a folder, or an address, and what may stand in the way there."""

import glob
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from taclnet_jax.errors import InputError
from taclnet_jax.files import explained, replacing
from taclnet_jax.prediction.address import Address
from taclnet_jax.prediction.older import ABOUT, check_replaceable, files_of
from taclnet_jax.volumes import FORMATS, local_path

# Of chunks in folders, which become objects at an address.
_CHUNKED = ('zarr2', 'zarr3', 'n5', 'precomputed')


class Output(Protocol):
    """The place of a prediction.

    Attributes:
        name: of it.
        scratch: where the work is kept by default.
    """

    name: str
    scratch: Path

    def check(self, about: Mapping[str, Any], scratch: Path, overwrite: bool) -> None:
        """Refuses what cannot be written there, before the work.

        Args:
            about: what is to be written.
            scratch: where the work is kept.
            overwrite: whether an older prediction may be replaced.

        Raises:
            InputError: something is in the way.
        """

    def about(self) -> bytes | None:
        """What is said of the prediction that is there; None where there is none."""

    def new(self, about: Mapping[str, Any], scratch: Path, overwrite: bool) -> Any:
        """A context with an empty folder to write to; what it holds then is placed at its end.

        Args:
            about, scratch, overwrite: as `check` takes them, which is called again before.
        """

    def path(self, file: str) -> str:
        """Of a file of the prediction."""


def create_output(output: str | Path, format: str) -> Output:
    """The place of a prediction.

    Args:
        output: a folder, or an address that starts with gs:// or s3://.
        format: of `FORMATS`.

    Raises:
        InputError: the format cannot be written there.
    """
    if format not in FORMATS:
        raise InputError(f'Expected one of the formats {", ".join(FORMATS)}; found {format!r}.')
    name = local_path(str(output))
    # No path; not for tensorstore; not for daisy; a folder of a name that was meant otherwise.
    wrong = '\0' in name or '\\' in name or name.encode(errors='replace').decode() != name
    if wrong or re.match('(gs|s3|https?|file):(?!//)', name, re.IGNORECASE):
        raise InputError(
            'Expected --output as a path in UTF-8 without \\, or as an address such as '
            f's3://bucket/folder; found {name!r}.'
        )
    if '://' not in name:
        return Folder(Path(name))
    if format not in _CHUNKED:
        raise InputError(
            f'Expected one of the formats {", ".join(_CHUNKED)} at an address, whose chunks are '
            f'objects of their own; found {format} for {name}. Choose one of them with --format, '
            'or a folder of this machine as --output.'
        )
    return Address(name)


class Folder:
    """A folder of this machine. It appears whole, at the end."""

    def __init__(self, path: Path) -> None:
        # A link stays, and what it points to is replaced; tensorstore takes no '..' in paths.
        self._path = path.resolve()
        self.name = str(path)
        self.scratch = self._path.parent / f'.{self._path.name}.unfinished'

    def check(self, about: Mapping[str, Any], scratch: Path, overwrite: bool) -> None:
        """See `Output`."""
        if self._path.exists() and not self._path.is_dir():
            raise InputError(f'Expected --output to be a folder; {self._path} is a file.')
        mine, other = self._path, scratch.resolve()
        if os.path.ismount(mine) or Path.cwd().is_relative_to(mine):
            raise InputError(
                f'Expected --output to be a folder that can be replaced as a whole; {mine} is '
                'mounted, or the current folder is in it. Choose a folder inside it.'
            )
        if mine.is_relative_to(other) or other.is_relative_to(mine):
            raise InputError(
                f'Expected --scratch and --output apart from each other, found {scratch} and '
                f'{self._path}.'
            )
        above = next(path for path in mine.parents if path.exists())
        if not os.access(above, os.W_OK):
            raise InputError(
                f'Expected --output where it can be written; {above} is read-only. Choose another '
                'folder.'
            )
        if not self._path.exists() or not any(self._path.iterdir()):
            return
        for name in ('input', 'mask'):
            read = str(about[name])
            if read and '://' not in read and Path(read).resolve().is_relative_to(mine):
                raise InputError(
                    f'Expected --output apart from --{name}, found {read} inside {self._path}, '
                    'which would be replaced. Choose another folder.'
                )
        found, others = self.about(), {path.name for path in self._path.iterdir()}
        if found is not None:
            others -= {ABOUT, *files_of(found)}
        check_replaceable(self.name, found, sorted(others), overwrite)

    def about(self) -> bytes | None:
        """See `Output`."""
        path = self._path / ABOUT
        return path.read_bytes() if path.is_file() else None

    @contextmanager
    def new(self, about: Mapping[str, Any], scratch: Path, overwrite: bool) -> Iterator[Path]:
        """See `Output`."""
        # What this command left, when it was killed here.
        left = f'.{glob.escape(self._path.name)}.{8 * "[0-9a-f]"}.partial'
        for partial in self._path.parent.glob(left):
            shutil.rmtree(partial, ignore_errors=True)
        with explained(self._path), replacing(self._path) as folder:
            folder.mkdir()
            yield folder
            self.check(about, scratch, overwrite)

    def path(self, file: str) -> str:
        """See `Output`."""
        return str(self._path / file)
