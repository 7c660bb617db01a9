"""Downloads from a real server: whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from file_server import FileServer

from taclnet_jax.data import download
from taclnet_jax.data.download import RETRIES, fetch, unpack
from taclnet_jax.errors import InputError

CONTENTS = np.random.default_rng(0).bytes(400_000)
SHA256 = hashlib.sha256(CONTENTS).hexdigest()
NAME = 'cremi/sample.hdf'


@pytest.fixture(autouse=True)
def serve(server: FileServer) -> None:
    server.files[NAME] = CONTENTS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'raw' / NAME


def get(server: FileServer, path: Path, sha256: str | None = SHA256) -> Path:
    return fetch(f'{server.url}/{NAME}', path.parents[1], NAME, sha256=sha256)


def refused(server: FileServer, path: Path, message: str) -> None:
    """A download that fails, whose message names the address and the file's place."""
    with pytest.raises(InputError, match=message) as caught:
        get(server, path)
    assert f'{server.url}/{NAME}' in str(caught.value) and '\n' not in str(caught.value)
    assert f'place it at {path}' in str(caught.value)
    assert not path.parent.exists() or files_beside(path) == []


def files_beside(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir())


def test_a_file_is_fetched_once(server: FileServer, path: Path):
    umask = os.umask(0o022)
    assert get(server, path) == path
    os.umask(umask)
    assert path.read_bytes() == CONTENTS and files_beside(path) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o644  # for other users of the folder, too
    get(server, path)
    assert len(server.requests) == 1


def test_what_is_there_is_left_alone(server: FileServer, path: Path):
    path.parent.mkdir(parents=True)
    path.write_text('placed by hand')
    get(server, path)
    assert path.read_text() == 'placed by hand' and not server.requests


def test_a_download_is_tried_again(server: FileServer, path: Path):
    server.faults = [503, -100_000, 429]
    get(server, path)
    assert path.read_bytes() == CONTENTS and files_beside(path) == [path.name]
    assert [status for _, status in server.requests] == [503, 200, 429, 200]


def test_a_wrong_sum_is_refused_and_nothing_is_left(server: FileServer, path: Path):
    server.files[NAME] = wrong = CONTENTS[:-1] + b'?'
    refused(server, path, f'expected {SHA256} but got {hashlib.sha256(wrong).hexdigest()}')
    server.files[NAME] = CONTENTS
    get(server, path)
    assert path.read_bytes() == CONTENTS


@pytest.mark.parametrize(
    ('trouble', 'reason'),
    [
        ('missing', '404 Client Error: Not Found'),
        ('forbidden', '403 Client Error: Forbidden'),
        ('broken', '500 Server Error: Internal Server Error'),
        ('cut', r'IncompleteRead\(100000 bytes read, 300000 more expected\)'),
        ('portal', 'a web page instead of the file'),
        ('silent', 'timed out'),
    ],
)
def test_a_server_without_the_file_is_described(
    server: FileServer, path: Path, monkeypatch, trouble: str, reason: str
):
    if trouble == 'missing':
        server.files.clear()
    elif trouble == 'portal':
        server.headers = {'Content-Type': 'text/html; charset=utf-8'}
    monkeypatch.setattr(download, 'TIMEOUTS_S', 0.1 if trouble == 'silent' else 60)
    faults = {'forbidden': 403, 'broken': 500, 'cut': -100_000, 'silent': 'hang'}
    if trouble in faults:
        server.faults = [faults[trouble]] * (1 + RETRIES)
    refused(server, path, reason)
    assert len(server.requests) == (1 if trouble == 'portal' else 1 + RETRIES)


def test_no_network_is_described(server: FileServer, path: Path):
    with pytest.raises(InputError, match='Name or service not known|name resolution') as caught:
        fetch('https://no-such-host.invalid/sample.hdf', path.parents[1], NAME)
    assert str(path) in str(caught.value)
    server.__exit__()
    refused(server, path, 'Connection refused')
    server.__enter__()


@pytest.mark.parametrize('url', ['cremi.org/sample.hdf', 'ftp://cremi.org/sample.hdf', 'http://'])
def test_an_address_that_is_none_is_refused(path: Path, url: str):
    with pytest.raises(InputError, match='Cannot download') as caught:
        fetch(url, path.parents[1], NAME)
    assert url in str(caught.value)


def expired_certificate(folder: Path) -> tuple[str, str]:
    """A self-signed certificate of last year for 127.0.0.1, and its key."""
    if shutil.which('openssl') is None:
        pytest.skip('needs openssl to make a certificate')
    (folder / 'index.txt').write_text('')
    (folder / 'settings').write_text(
        '[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\n'
        'default_md=sha256\npolicy=any\nx509_extensions=names\n[any]\ncommonName=supplied\n'
        '[names]\nsubjectAltName=IP:127.0.0.1\n[req]\ndistinguished_name=none\n[none]\n'
    )
    for command in (
        'req -new -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout key.pem -out request.pem',
        'ca -batch -selfsign -keyfile key.pem -in request.pem -out certificate.pem -notext'
        ' -startdate 20240101000000Z -enddate 20240201000000Z',
    ):
        subprocess.run(
            ['openssl', *command.split(), '-config', 'settings'],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    return str(folder / 'certificate.pem'), str(folder / 'key.pem')


def test_an_expired_certificate_is_never_accepted(
    path: Path, tmp_path: Path, monkeypatch, server: FileServer
):
    certificate = expired_certificate(tmp_path)
    with FileServer({NAME: CONTENTS}, certificate=certificate) as server:
        refused(server, path, 'certificate verify failed: self.signed certificate')
        # Now its issuer is trusted: what is wrong is the date.
        monkeypatch.setenv('REQUESTS_CA_BUNDLE', certificate[0])
        refused(server, path, 'certificate verify failed: certificate has expired')
        assert not server.requests


def test_too_little_space_is_found_before_anything_is_written(
    server: FileServer, path: Path, monkeypatch
):
    usage = shutil.disk_usage(path.parents[2])._replace(free=250_000)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage)
    refused(server, path, 'needs 0.4 MB more in .*, where 0.2 MB are free')


def test_a_disk_that_fills_up_meanwhile_is_named(server: FileServer, path: Path, monkeypatch):
    def remove(file: str) -> None:
        os.unlink(file)
        if not server.requests:
            os.symlink('/dev/full', file)  # every write to it fails

    monkeypatch.setattr(os, 'remove', remove)
    refused(server, path, 'No space left on device')


def test_a_folder_that_cannot_be_made_is_named(server: FileServer, tmp_path: Path):
    (tmp_path / 'raw').write_text('a file')
    with pytest.raises(InputError, match=r'Not a directory.*config\.data_dir.*raw/cremi/sample'):
        get(server, tmp_path / 'raw' / NAME)


@pytest.mark.parametrize('end', ['', '/'])
def test_a_mirror_has_the_files_under_their_places(server: FileServer, path: Path, end: str):
    server.files = {f'em/{NAME}': b'of the mirror'}
    fetch(
        'https://no-such-host.invalid/a.hdf', path.parents[1], NAME, mirror=f'{server.url}/em{end}'
    )
    assert path.read_bytes() == b'of the mirror'


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, contents in files.items():
            archive.writestr(name, contents)
    return path


def accept(path: Path) -> None:
    assert path.stat().st_size


@pytest.mark.parametrize('folder', ['', 'image/', '../../', '/etc/'])
def test_a_file_is_unpacked_to_its_place_whatever_its_folder(tmp_path: Path, folder: str):
    shadow = {'__MACOSX/image/train.tif': b'shadow', 'image/other-train.tif': b'other'}
    archive = zipped(tmp_path / 'a.zip', {f'{folder}train.tif': CONTENTS} | shadow)
    target = tmp_path / 'inner' / 'folder' / 'train.tif'
    unpack(archive, 'train.tif', target, accept)
    assert target.read_bytes() == CONTENTS
    assert files_beside(target) == ['train.tif']
    assert files_beside(archive) == ['a.zip', 'inner']


def test_archives_that_will_not_do_are_described(tmp_path: Path, monkeypatch):
    target = tmp_path / 'out' / 'train.tif'

    def refuse(message: str) -> None:
        with pytest.raises(InputError, match=message):
            unpack(archive, 'train.tif', target, accept)
        assert not target.parent.exists() or files_beside(target) == []

    archive = zipped(tmp_path / 'a.zip', {'test.tif': b'x', 'readme': b'x'})
    refuse(r'one file train\.tif in .*a\.zip, found 0; it holds test\.tif, readme')
    zipped(archive, {'a/train.tif': b'x', 'b/train.tif': b'y'})
    refuse('found 2; it holds a/train.tif, b/train.tif')
    whole = zipped(archive, {'train.tif': CONTENTS}).read_bytes()
    for damaged in (whole[:200_000], b'no zip', whole[:1000] + b'????' + whole[1004:]):
        archive.write_bytes(damaged)
        refuse('damaged or no zip archive .*remove it')
    archive.write_bytes(whole)
    usage = shutil.disk_usage(tmp_path)._replace(free=250_000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, 'disk_usage', lambda folder: usage)
        refuse('train.tif needs 0.4 MB more in .*, where 0.2 MB are free')


def test_an_unpacked_file_may_be_refused(tmp_path: Path):
    archive = zipped(tmp_path / 'a.zip', {'train.tif': CONTENTS})

    def refuse(path: Path) -> None:
        assert path.read_bytes() == CONTENTS
        raise InputError('not this one')

    with pytest.raises(InputError, match='not this one'):
        unpack(archive, 'train.tif', tmp_path / 'train.tif', refuse)
    assert files_beside(archive) == ['a.zip']
