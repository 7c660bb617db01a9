"""A prediction at an address in the cloud, whose objects cannot be renamed.

The results are written into the scratch folder first, and sent from there: chunks, then the
metadata that make arrays of them, then what they are of. So nothing that was sent in part can be
opened as if it were whole. A mark that is there meanwhile says whose it is.
"""

import json
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import tensorstore as ts

from taclnet_jax.errors import InputError
from taclnet_jax.files import explained
from taclnet_jax.prediction.older import ABOUT, check_replaceable, files_of, same_prediction
from taclnet_jax.progress import Progress
from taclnet_jax.volumes.chunked import METADATA, open_kvstore

_SCHEMES = ('gs://', 's3://')
_MARK = 'prediction.unfinished.json'
_TRIAL = 'prediction.trial'
# Objects on their way at once; some MiB each.
_AT_ONCE = 32


class Address:
    """See `Output`, of prediction/output.py.

    Args:
        address: it starts with one of `_SCHEMES`.
    """

    def __init__(self, address: str) -> None:
        self.name = address.rstrip('/')
        scheme, _, path = self.name.partition('://')
        bucket, _, place = path.partition('/')
        if f'{scheme}://' not in _SCHEMES or not bucket or not place:
            raise InputError(
                'Expected --output as a folder of this machine, or as an address '
                f'gs://bucket/folder or s3://bucket/folder, found {address}.'
            )
        self.scratch = Path(f'.{place.rsplit("/", 1)[-1]}.unfinished').absolute()

    def check(self, about: Mapping[str, Any], scratch: Path, overwrite: bool) -> None:
        """See `Output`."""
        with self._problems('read'):
            store = self._store()
            whole, mark = _read(store, ABOUT), _read(store, _MARK)
            files = {ABOUT, _MARK, *files_of(whole), *files_of(mark)}
            others = _names_beside(store, files)
        # What this command left behind it may replace.
        mine = same_prediction(mark, about)
        check_replaceable(self.name, mark or whole, others, overwrite or mine, mark is not None)
        with self._problems('write'):
            store.write(_TRIAL, b'trial').result()
            _delete(store, _TRIAL)

    def about(self) -> bytes | None:
        """See `Output`."""
        with self._problems('read'):
            return _read(self._store(), ABOUT)

    @contextmanager
    def new(self, about: Mapping[str, Any], scratch: Path, overwrite: bool) -> Iterator[Path]:
        """See `Output`."""
        folder = scratch / 'results'
        with explained(folder):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir()
            yield folder
        self.check(about, scratch, overwrite)
        with self._problems('write'):
            self._send(folder, about)

    def path(self, file: str) -> str:
        """See `Output`."""
        return f'{self.name}/{file}'

    def _send(self, folder: Path, about: Mapping[str, Any]) -> None:
        store = self._store()
        older = files_of(_read(store, ABOUT)) | files_of(_read(store, _MARK))
        # Until the end it says what is there: of what is removed, too.
        files = {name: name for name in sorted(older | set(about['files'].values()))}
        store.write(_MARK, json.dumps({**about, 'files': files}).encode()).result()
        self._remove(store, older)
        keys = [str(p.relative_to(folder).as_posix()) for p in folder.rglob('*') if p.is_file()]
        metadata = [key for key in keys if _is_metadata(key)]
        chunks = sorted(set(keys) - {ABOUT, *metadata})
        with closing(Progress(0, len(chunks), 'object')) as bar:

            def send(key: str) -> Any:
                bar.step('sending')
                return store.write(key, (folder / key).read_bytes())

            _finish(map(send, chunks))
        # Of the folders within before that around them, and last of all what they are of.
        for key in [*sorted(metadata, key=lambda key: (-key.count('/'), key)), ABOUT]:
            store.write(key, (folder / key).read_bytes()).result()
        _delete(store, _MARK)

    def _remove(self, store: ts.KvStore, files: Iterable[str]) -> None:
        """Removes an older prediction, what makes it look complete before all else."""
        _delete(store, ABOUT)
        for file in files:
            inside = _listed(store, f'{file}/', f'{file}0')  # '/' is followed by '0'
            for key in sorted(filter(_is_metadata, inside), key=lambda key: key.count('/')):
                _delete(store, key)
            rest = [file, *(key for key in inside if not _is_metadata(key))]
            _finish(store.write(key, None) for key in rest)

    def _store(self) -> ts.KvStore:
        return open_kvstore(f'{self.name}/')

    @contextmanager
    def _problems(self, verb: str) -> Iterator[None]:
        """Turns what tensorstore raises into one message."""
        try:
            yield
        except InputError:
            raise
        except (ValueError, NotImplementedError) as error:
            reason = str(error).split(' [source')[0]
            raise InputError(
                f'Cannot {verb} {self.name} ({reason}); check the address, the permissions and '
                'the connection, and start the same command again. What was computed is kept, and '
                'what was sent so far cannot be taken for a whole prediction.'
            ) from error


def _read(store: ts.KvStore, key: str) -> bytes | None:
    answer = store.read(key).result()
    return answer.value if answer.state == 'value' else None


def _is_metadata(key: str) -> bool:
    return key.rsplit('/', 1)[-1] in METADATA


def _finish(futures: Iterable[Any]) -> None:
    """Waits for all, of which so many are begun at once as `_AT_ONCE` says."""
    begun: deque[Any] = deque()
    for future in futures:
        begun.append(future)
        if len(begun) == _AT_ONCE:
            begun.popleft().result()
    for future in begun:
        future.result()


def _delete(store: ts.KvStore, key: str) -> None:
    store.write(key, None).result()


def _names_beside(store: ts.KvStore, files: set[str]) -> list[str]:
    """What is there beside files and folders of these names, whose many chunks are skipped."""
    first, keys = '', []
    for name in sorted(files):
        keys += _listed(store, first, f'{name}/')
        first = f'{name}0'
    keys += _listed(store, first, '')
    return sorted({key.split('/')[0] for key in keys} - files)


def _listed(store: ts.KvStore, first: str, end: str) -> list[str]:
    """The keys from one on, before another; to the last if that is ''."""
    if end and first >= end:
        return []
    found = store.list(ts.KvStore.KeyRange(first, end)).result()
    keys = (key.decode(errors='replace') for key in found)
    # Not every server that speaks Google's or Amazon's language knows of ranges.
    return [key for key in keys if first <= key and (key < end or not end)]
