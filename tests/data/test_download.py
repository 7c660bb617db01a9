"""Downloads from a real server: whole or not at all, and never more of them than needed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from file_server import FileServer

from taclnet_jax.data import download
from taclnet_jax.data.download import address, fetch, unpack
from taclnet_jax.errors import InputError

CONTENTS = np.random.default_rng(0).bytes(400_000)
SHA256 = hashlib.sha256(CONTENTS).hexdigest()
NAME = 'cremi/sample.hdf'


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(download, 'PAUSE_S', 0.01)
    monkeypatch.setenv('NO_PROXY', '*')


@pytest.fixture
def server():
    with FileServer({NAME: CONTENTS}) as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'raw' / NAME


def get(server: FileServer, path: Path, sha256: str | None = SHA256) -> Path:
    return fetch(f'{server.url}/{NAME}', path, sha256=sha256)


def refused(server: FileServer, path: Path, message: str, **options: object) -> str:
    """The message of a download that fails, which names the address and the file's place."""
    with pytest.raises(InputError, match=message) as caught:
        get(server, path, **options)
    assert f'{server.url}/{NAME}' in str(caught.value) and str(path) in str(caught.value)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def first_bytes(server: FileServer) -> list[int]:
    """Where each request so far wanted to begin."""
    return [
        0 if asked is None else int(asked.removeprefix('bytes=').removesuffix('-'))
        for _, asked, _, _ in server.requests
    ]


def files_beside(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir())


def test_a_file_is_fetched_once(server: FileServer, path: Path, capfd):
    assert get(server, path) == path
    assert path.read_bytes() == CONTENTS and files_beside(path) == [path.name]
    shown = capfd.readouterr().err
    assert f'Downloading {server.url}/{NAME} to {path}' in shown
    assert '400k/400k' in shown and 'B/s' in shown
    get(server, path)
    assert len(server.requests) == 1 and capfd.readouterr().err == ''


def test_what_is_there_is_left_alone(server: FileServer, path: Path):
    path.parent.mkdir(parents=True)
    path.write_text('placed by hand')
    get(server, path)
    assert path.read_text() == 'placed by hand' and not server.requests


def test_a_broken_download_goes_on_where_it_stopped(server: FileServer, path: Path, capfd):
    server.faults = [-100_000, -200_000]
    get(server, path)
    assert path.read_bytes() == CONTENTS
    first, second, third = first_bytes(server)
    # What was on its way when the connection broke may be lost, but not a chunk of 64 KiB.
    assert first == 0 and 34_464 < second <= 100_000 and 134_464 < third - second <= 200_000
    assert [status for *_, status in server.requests] == [200, 206, 206]
    assert capfd.readouterr().err.count('the connection broke off; trying again in') == 2


def test_attempts_that_bring_something_do_not_count(server: FileServer, path: Path):
    server.files[NAME] = contents = CONTENTS * 2
    server.faults = [-100_000] * (download.ATTEMPTS + 3)
    get(server, path, sha256=None)
    assert path.read_bytes() == contents
    assert first_bytes(server) == [65_536 * n for n in range(download.ATTEMPTS + 4)]


def test_attempts_that_never_get_farther_end(server: FileServer, path: Path):
    server.ranges = False
    server.faults = [-100_000] * 20
    refused(server, path, 'the connection broke off')
    assert len(server.requests) == download.ATTEMPTS


def test_a_later_call_goes_on_where_an_earlier_one_stopped(server: FileServer, path: Path):
    server.faults = [-300_000, 503, 503, 503]
    assert 'answers 503 Service Unavailable' in refused(server, path, 'Cannot download')
    kept = path.with_name(path.name + '.partial').stat().st_size
    assert not path.exists() and 200_000 < kept <= 300_000
    server.requests.clear()
    get(server, path)
    assert path.read_bytes() == CONTENTS
    assert first_bytes(server) == [kept] and files_beside(path) == [path.name]


def test_a_complete_part_needs_no_second_download(server: FileServer, path: Path):
    partial = path.with_name(path.name + '.partial')
    server.faults = [-100_000, 404]
    refused(server, path, 'answers 404 Not Found')
    partial.write_bytes(CONTENTS)  # the process ended just before it took its name
    server.requests.clear()
    get(server, path)
    assert path.read_bytes() == CONTENTS and [status for *_, status in server.requests] == [416]


@pytest.mark.parametrize('headers', [None, {'Last-Modified': 'Sun, 01 May 2016 10:00:00 GMT'}])
def test_a_file_that_changed_on_the_server_is_fetched_from_its_beginning(
    server: FileServer, path: Path, headers: dict[str, str] | None
):
    server.headers = headers
    server.faults = [-100_000, 404]
    refused(server, path, '404')
    server.files[NAME] = other = CONTENTS[::-1] + b'more'
    if headers is not None:
        server.headers = {'Last-Modified': 'Mon, 02 May 2016 10:00:00 GMT'}
    get(server, path, sha256=hashlib.sha256(other).hexdigest())
    assert path.read_bytes() == other
    assert first_bytes(server)[-1] > 0 and server.requests[-1][-1] == 200


def test_a_part_of_another_file_is_not_taken(server: FileServer, path: Path):
    server.faults = [-100_000, 404]
    refused(server, path, '404')
    server.files[NAME] = other = CONTENTS[::-1]
    server.ranges = 'careless'  # sends a part of it, whatever If-Range says
    get(server, path, sha256=None)
    assert path.read_bytes() == other


def test_a_shorter_file_on_the_server_is_fetched_from_its_beginning(server: FileServer, path: Path):
    server.headers = {'Last-Modified': 'Sun, 01 May 2016 10:00:00 GMT'}
    server.faults = [-10_000, 404]
    refused(server, path, '404')
    server.files[NAME] = CONTENTS[:1000]  # of the same date
    get(server, path, sha256=None)
    assert path.read_bytes() == CONTENTS[:1000]


@pytest.mark.parametrize('server_says', ['no ranges', 'no version', 'weak version'])
def test_without_a_safe_way_to_go_on_the_file_is_fetched_from_its_beginning(
    server: FileServer, path: Path, server_says: str
):
    if server_says == 'no ranges':
        server.ranges = False
    else:
        server.headers = {} if server_says == 'no version' else {'ETag': 'W/"1"'}
    server.faults = [-100_000]
    get(server, path)
    assert path.read_bytes() == CONTENTS and [status for *_, status in server.requests] == [200] * 2


def test_two_refusals_then_the_file(server: FileServer, path: Path):
    server.faults = [503, 429]
    get(server, path)
    assert path.read_bytes() == CONTENTS and len(server.requests) == 3


def test_a_wrong_sum_is_refused_and_nothing_is_left(server: FileServer, path: Path):
    server.files[NAME] = wrong = CONTENTS[:-1] + b'?'
    message = refused(server, path, f'Expected sha256 {SHA256}')
    assert f'found {hashlib.sha256(wrong).hexdigest()}' in message
    assert 'start the same command again' in message and files_beside(path) == []
    server.files[NAME] = CONTENTS
    get(server, path)
    assert path.read_bytes() == CONTENTS


@pytest.mark.parametrize(
    ('trouble', 'requests', 'reason'),
    [
        ('missing', 1, 'the server answers 404 Not Found'),
        ('forbidden', 1, 'the server answers 403 Forbidden'),
        ('broken', 4, 'the server answers 500 Internal Server Error'),
        ('portal', 1, 'a web page instead of the file'),
        ('silent', 4, 'the server does not answer in time'),
    ],
)
def test_a_server_without_the_file_is_described(
    server: FileServer, path: Path, monkeypatch, trouble: str, requests: int, reason: str
):
    if trouble == 'missing':
        server.files.clear()
    elif trouble == 'portal':
        server.headers = {'Content-Type': 'text/html; charset=utf-8'}
    elif trouble == 'silent':
        monkeypatch.setattr(download, 'READ_TIMEOUT_S', 0.1)
        server.faults = ['hang'] * 4
    else:
        server.faults = [403 if trouble == 'forbidden' else 500] * 4
    message = refused(server, path, reason)
    assert f'place it at {path}' in message
    assert len(server.requests) == requests and files_beside(path) == []


def test_no_network_is_described(path: Path, server: FileServer):
    with pytest.raises(InputError, match=r'name is not known \(no network\?\)') as caught:
        fetch('https://no-such-host.invalid/sample.hdf', path)
    assert str(path) in str(caught.value)
    server.__exit__(None, None, None)
    refused(server, path, 'Connection refused')
    server.__enter__()


@pytest.mark.parametrize('url', ['cremi.org/sample.hdf', 'ftp://cremi.org/sample.hdf', 'http://'])
def test_an_address_that_is_none_is_refused_at_once(path: Path, url: str):
    start = time.monotonic()
    with pytest.raises(InputError, match='Cannot download') as caught:
        fetch(url, path)
    assert time.monotonic() - start < 1 and url in str(caught.value)


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


def test_an_expired_certificate_is_never_accepted(path: Path, tmp_path: Path, monkeypatch):
    certificate = expired_certificate(tmp_path)
    with FileServer({NAME: CONTENTS}, certificate=certificate) as server:
        refused(server, path, r'certificate is not valid \(self.signed certificate\)')
        # Now its issuer is trusted: what is wrong is the date.
        monkeypatch.setenv('REQUESTS_CA_BUNDLE', certificate[0])
        message = refused(server, path, r'certificate is not valid \(certificate has expired\)')
        assert f'place it at {path}' in message
        assert not server.requests and files_beside(path) == []


def test_too_little_space_is_found_before_anything_is_written(
    server: FileServer, path: Path, monkeypatch
):
    usage = shutil.disk_usage(path.parents[2])._replace(free=250_000)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage)
    with pytest.raises(
        InputError, match='needs 0.4 MB more in .*, where 0.2 MB are free'
    ) as caught:
        get(server, path)
    assert str(path.parent) in str(caught.value) and files_beside(path) == []


def test_a_disk_that_fills_up_meanwhile_is_named(server: FileServer, path: Path):
    path.parent.mkdir(parents=True)
    path.with_name(path.name + '.partial').symlink_to('/dev/full')  # every write to it fails
    with pytest.raises(InputError, match=r'no space left for sample\.hdf in .*make room') as caught:
        get(server, path)
    assert str(path.parent) in str(caught.value)
    get(server, path)
    assert path.read_bytes() == CONTENTS


def test_a_limit_on_files_is_named_and_what_arrived_is_kept(server: FileServer, path: Path):
    script = (
        'import resource, sys\n'
        'from taclnet_jax.data.download import fetch\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))\n'
        'fetch(*sys.argv[1:])\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script, f'{server.url}/{NAME}', path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f'Cannot write {path}: {os.strerror(errno.EFBIG)}' in done.stderr
    assert path.with_name(path.name + '.partial').stat().st_size == 150_000
    get(server, path)
    assert first_bytes(server) == [0, 150_000] and path.read_bytes() == CONTENTS


def test_a_folder_that_cannot_be_made_is_named(server: FileServer, tmp_path: Path):
    (tmp_path / 'raw').write_text('a file')
    with pytest.raises(InputError, match=r'Cannot write .*raw/cremi/sample\.hdf.*config\.data_dir'):
        get(server, tmp_path / 'raw' / NAME)


def test_of_two_processes_one_downloads_and_the_other_waits(server: FileServer, path: Path):
    server.faults = [-100_000]
    script = 'import sys\nfrom taclnet_jax.data.download import fetch\nfetch(*sys.argv[1:])\n'
    command = [sys.executable, '-c', script, f'{server.url}/{NAME}', str(path)]
    processes = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(2)
    ]
    messages = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], messages
    assert path.read_bytes() == CONTENTS and files_beside(path) == [path.name]
    assert [status for *_, status in server.requests] == [200, 206]


def test_a_process_takes_over_from_one_that_was_killed(server: FileServer, path: Path):
    script = 'import sys\nfrom taclnet_jax.data.download import fetch\nfetch(*sys.argv[1:])\n'
    command = [sys.executable, '-c', script, f'{server.url}/{NAME}', str(path)]
    server.faults = [-300_000, 'hang']
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while len(server.requests) < 2:
        time.sleep(0.01)
    second = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert second.stderr is not None
    assert 'Waiting for another process' in second.stderr.readline()
    first.kill()
    first.communicate(timeout=60)
    assert second.wait(timeout=60) == 0
    second.stderr.close()
    assert path.read_bytes() == CONTENTS and first_bytes(server)[-1] > 200_000


def test_file_systems_without_locks_will_do(server: FileServer, path: Path, monkeypatch):
    def no_locks(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, 'flock', no_locks)
    assert get(server, path).read_bytes() == CONTENTS


def test_a_mirror_has_the_files_under_their_places():
    url = 'https://cremi.org/static/data/sample_A_20160501.hdf'
    place = 'cremi/sample_A_20160501.hdf'
    assert address(url, place, '') == url
    for mirror in ('http://lab/em', 'http://lab/em/'):
        assert address(url, place, mirror) == f'http://lab/em/{place}'


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
    assert unpack(archive, 'train.tif', target, accept).read_bytes() == CONTENTS
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
