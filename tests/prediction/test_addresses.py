"""Predictions at addresses, on servers of S3 and of Google's storage that run here."""

from __future__ import annotations

import functools
import json
import logging
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import zarr
from made_up import RESOLUTION_NM, image, tiny, write_run

from taclnet_jax.errors import InputError
from taclnet_jax.prediction import address
from taclnet_jax.prediction.predict import Options, predict_volume
from taclnet_jax.volumes import chunked, open_array, read_whole, write_array

SHAPE = (3, 64, 64)
FORMATS = ('zarr2', 'zarr3', 'n5', 'precomputed')
NAMES = ('membrane', 'segments')


class Server:
    """A server with a bucket that is empty at first.

    Args:
        scheme: of its addresses.
        started: a server that is running, with `start` and `stop`.
        url: of it.
    """

    def __init__(self, scheme: str, started: Any, url: str) -> None:
        self.scheme, self.started, self.url = scheme, started, url

    def at(self, place: str) -> str:
        return f'{self.scheme}://bucket/{place}'

    def objects(self, place: str = '') -> dict[str, bytes]:
        """All objects below a place, by what follows it in their names."""
        store = chunked.open_kvstore(self.at(place).rstrip('/'))
        keys = store.list().result()
        return {key.decode(): store.read(key).result().value for key in sorted(keys)}

    def write(self, key: str, value: bytes) -> None:
        chunked.open_kvstore(f'{self.scheme}://bucket').write(key, value).result()


def s3() -> Server:
    moto = pytest.importorskip('moto.server')
    logging.getLogger('werkzeug').setLevel(logging.ERROR)
    started = moto.ThreadedMotoServer('127.0.0.1', 0, verbose=False)
    started.start()
    _, port = started.get_host_and_port()
    started._port = port  # to start again there
    url = f'http://127.0.0.1:{port}'
    urllib.request.urlopen(urllib.request.Request(f'{url}/bucket', method='PUT'))
    return Server('s3', started, url)


def listed(real: Callable[..., None], request: Any, response: Any, *args: Any) -> None:
    """Lists objects of a range, as Google's servers do; this one would list all of the bucket."""
    real(request, response, *args)
    if response.status != 200:
        return
    first, end = (request.query.get(name, [''])[0] for name in ('startOffset', 'endOffset'))
    found = json.loads(response._content)
    found['items'] = [
        item for item in found['items'] if first <= item['name'] and (item['name'] < end or not end)
    ]
    response.json(found)


def gs() -> Server:
    emulator = pytest.importorskip('gcp_storage_emulator.server')
    for _, handlers in emulator.HANDLERS:
        if handlers.get('GET') is emulator.objects.ls:
            handlers['GET'] = functools.partial(listed, emulator.objects.ls)
    started = emulator.create_server('127.0.0.1', 0, in_memory=True, default_bucket='bucket')
    started.start()
    logging.getLogger('gcp_storage_emulator').setLevel(logging.CRITICAL)
    port = started._api._httpd.server_address[1]
    return Server('gs', started, f'http://127.0.0.1:{port}')


@pytest.fixture(scope='module', params=[s3, gs], ids=['s3', 'gs'])
def running(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each of the two; once a process, as tensorstore asks for the address of one only once."""
    used = request.param()
    yield used
    used.started.stop()


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """It with nothing in it, and with what tensorstore takes from the environment."""
    used = running
    for name, value in {
        'AWS_ENDPOINT_URL': used.url,
        'AWS_ACCESS_KEY_ID': 'key',
        'AWS_SECRET_ACCESS_KEY': 'secret',
        'AWS_EC2_METADATA_DISABLED': 'true',
        'TENSORSTORE_GCS_HTTP_URL': used.url,
        'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'token',
    }.items():
        monkeypatch.setenv(name, value)
    # Nothing is known of what tests before wrote to the same places.
    monkeypatch.setattr(chunked, 'context', functools.cache(chunked.context.__wrapped__))
    store = chunked.open_kvstore(used.at(''))
    store.delete_range(ts.KvStore.KeyRange()).result()
    return used


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / 'volume.zarr'
    write_array(path, image(SHAPE), resolution_nm=RESOLUTION_NM, format='zarr3')
    return path


def predict(volume: Path, output: str, **options: Any) -> dict[str, str]:
    chosen = Options(**{'names': NAMES, 'format': 'zarr3'} | options)
    return predict_volume(tiny(), str(volume), output, chosen)


def files_of(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob('*') if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def openable(found: dict[str, str]) -> list[str]:
    """Which files of a prediction can be opened, and of which there is something to be opened."""
    opened = []
    for name in NAMES:
        try:
            open_array(found[name])
        except InputError:
            continue
        opened.append(name)
    return opened


@pytest.mark.parametrize('format', FORMATS)
def test_objects_are_the_files_of_a_folder(
    tmp_path: Path, volume: Path, server: Server, format: str
) -> None:
    files = predict(volume, str(tmp_path / 'out'), format=format)
    found = predict(volume, server.at('some place/out'), format=format)
    local = files_of(tmp_path / 'out')
    assert server.objects() == {f'some place/out/{key}': value for key, value in local.items()}
    for name in NAMES:
        assert found[name] == f'{server.at("some place/out")}/{Path(files[name]).name}'
        array = open_array(found[name])
        assert array.resolution_nm == RESOLUTION_NM
        np.testing.assert_array_equal(read_whole(array), read_whole(open_array(files[name])))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'volume.zarr']


def test_zarr_reads_what_was_sent(tmp_path: Path, volume: Path, server: Server) -> None:
    predict(volume, server.at('out'))
    store = {f'{key}': value for key, value in server.objects('out/segments.zarr').items()}
    for key, value in store.items():
        path = tmp_path / 'copy' / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value)
    expected = read_whole(open_array(server.at('out/segments.zarr')))
    np.testing.assert_array_equal(zarr.open_group(tmp_path / 'copy', mode='r')['0'][:], expected)
    assert expected.max() > 5


def test_an_older_prediction_is_replaced_only_when_asked(volume: Path, server: Server) -> None:
    predict(volume, server.at('out'), box='0:1,0:40,0:64')
    server.write('outside', b'mine')
    before = server.objects()
    with pytest.raises(InputError, match=r'prediction of .*box \[\[0, 1\].*--overwrite'):
        predict(volume, server.at('out'), format='n5')
    assert server.objects() == before
    files = predict(volume, server.at('out'), format='n5', names=['segments'], overwrite=True)
    assert open_array(files['segments']).shape == SHAPE
    places = {key.split('/')[1] for key in server.objects() if '/' in key}
    assert places == {'segments.n5', 'section.png', 'report.html', 'prediction.json'}
    # What is of somebody else is never touched.
    server.write('out/segments.n5.txt', b'mine')
    server.write('out/notes/a', b'mine')
    before = server.objects()
    with pytest.raises(InputError, match=r'something else \(notes, segments.n5.txt\)'):
        predict(volume, server.at('out'), overwrite=True)
    assert server.objects() == before and before['outside'] == b'mine'


class Stopped(Exception):
    """Ends a command."""


def stop_at(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Ends the next command when it is about to send an object."""
    real = Path.read_bytes

    def read(path: Path) -> bytes:
        if path.as_posix().endswith(f'results/{key}'):
            monkeypatch.setattr(Path, 'read_bytes', real)
            raise Stopped
        return real(path)

    monkeypatch.setattr(Path, 'read_bytes', read)


@pytest.mark.parametrize('format', FORMATS)
def test_what_was_sent_in_part_cannot_be_opened(
    volume: Path, server: Server, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    complete = predict(volume, server.at('out'), format=format, overwrite=True)
    expected = server.objects()
    chunks = sorted(key for key in expected if key.split('/')[-1] not in chunked.METADATA)
    first = next(key for key in chunks if 'segments' in key)
    about = 'out/prediction.json'
    # Chunks all come before the metadata, and what says that all is there comes last.
    for key, there in ((first, []), (about, list(NAMES))):
        stop_at(monkeypatch, key.removeprefix('out/'))
        with pytest.raises(Stopped):
            predict(volume, server.at('out'), format=format, overwrite=key == first)
        assert about not in server.objects()
        assert openable(complete) == there
        for flags in ({'box': '0:1,0:40,0:64'}, {'dtype': 'float32'}):
            with pytest.raises(InputError, match='holds a part of the prediction of'):
                predict(volume, server.at('out'), format=format, scratch=f'{volume}.other', **flags)
    # The same command goes on, without being asked to overwrite what it left.
    predict(volume, server.at('out'), format=format)
    assert server.objects() == expected


def test_a_server_that_fails_is_told_in_one_message(
    volume: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    if server.scheme == 'gs':
        pytest.skip('its server forgets all when it stops')
    monkeypatch.setattr(chunked, '_RETRIES', {'max_retries': 1, 'max_delay': '10ms'})
    monkeypatch.setattr(chunked, 'context', chunked.context.__wrapped__)
    real = address.Progress.step

    def step(bar: Any, what: str) -> None:
        if what == 'sending':
            server.started.stop()
            monkeypatch.setattr(address.Progress, 'step', real)
        real(bar, what)

    monkeypatch.setattr(address.Progress, 'step', step)
    with pytest.raises(InputError, match=r'Cannot write s3://bucket/out .*What was computed is'):
        predict(volume, server.at('out'))
    with pytest.raises(InputError, match=r'Cannot read s3://bucket/out'):
        predict(volume, server.at('out'))
    server.started.start()
    files = predict(volume, server.at('out'))
    assert openable(files) == list(NAMES)
    assert json.loads(server.objects('out')['prediction.json'])['input'] == str(volume)


def test_what_is_refused(tmp_path: Path, volume: Path, server: Server) -> None:
    for format in ('tiff', 'png', 'hdf5'):
        with pytest.raises(
            InputError, match=f'formats zarr2, .* found {format} for {server.at("")}'
        ):
            predict(volume, server.at('out'), format=format)
    with pytest.raises(InputError, match='Cannot (read|write) .*nowhere/out'):
        predict(volume, f'{server.scheme}://nowhere/out')
    assert not server.objects()
    assert [path.name for path in tmp_path.iterdir()] == ['volume.zarr']


def test_the_command_line(
    tmp_path: Path, volume: Path, server: Server, run_command: Callable[..., tuple[int, str]]
) -> None:
    run = write_run(tmp_path / 'run', tiny())
    flags = ['--mode=predict', f'--workdir={run}', f'--input={volume}', '--format=zarr3']
    status, output = run_command(*flags, f'--output={server.at("out/")}')
    assert status == 0, output
    assert f'\n  {server.at("out/segments.zarr")}\n' in output
    assert {path.name for path in run.iterdir()} == {'config.json', 'results.json', 'checkpoints'}
