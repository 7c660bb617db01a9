"""--mode=view: what is served to Neuroglancer, where, and until when; and what a browser draws."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
import pytest
from commands import environment
from made_up import predicted, tiny
from PIL import Image

from taclnet_jax import page
from taclnet_jax.neurons.volume import Options, segment_volume
from taclnet_jax.viewing import layers, open_look, serving
from taclnet_jax.volumes import write_array

Refused = Callable[..., str]

NM, OFFSET_NM = (40.0, 4.0, 4.0), (80.0, 8.0, 12.0)
# Two neurons, left and right, membrane between them and below; the box is a part of the image.
IMAGE_SHAPE, FIRST = (6, 40, 48), (1, 8, 12)
BOX = np.zeros((4, 24, 30), np.uint16)
BOX[:, :20, :14], BOX[:, :20, 16:] = 1, 2
SEGMENTS = BOX + np.where(BOX > 0, 2 * np.arange(4, dtype=np.uint16)[:, None, None], 0)


@pytest.fixture
def prediction(tmp_path: Path) -> Path:
    """A folder as predict writes it, of a box in an image with an offset."""
    return written(tmp_path, 'zarr3')


def written(tmp_path: Path, format: str, nm: Any = NM, offset_nm: Any = OFFSET_NM) -> Path:
    image = np.full(IMAGE_SHAPE, 120, np.uint8)
    image[:, 8:, 42:] = 250  # beside the box
    write_array(tmp_path / 'image.h5', image, dataset='raw', resolution_nm=nm, offset_nm=offset_nm)
    folder = tmp_path / 'prediction'
    folder.mkdir()
    offset = None
    if nm is not None:
        offset = [o + n * size for o, n, size in zip(offset_nm, FIRST, nm, strict=True)]
    write_array(folder / 'refined', np.uint8(255 * (BOX == 0)), format=format)
    write_array(folder / 'segments', SEGMENTS, format=format)
    about = {
        'input': str(tmp_path / 'image.h5'),
        'dataset': 'raw',
        'box': [[n, n + size] for n, size in zip(FIRST, BOX.shape, strict=True)],
        'files': {'refined': 'refined', 'segments': 'segments', 'picture': 'section.png'},
        'resolution_nm': nm,
        'offset_nm': offset,
    }
    (folder / 'prediction.json').write_text(json.dumps(about))
    return folder


@pytest.fixture
def neurons(prediction: Path) -> Path:
    segment_volume(str(prediction), prediction.with_name('neurons'))
    return prediction.with_name('neurons')


def fetched(address: str) -> Any:
    """Without a proxy."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=20)


def within(served: Any, layer: str, what: str) -> str:
    """The address of something of a layer's array."""
    url = served.viewer.state.layers[layer].source[0].url
    key = url.removeprefix('python://volume/')
    return f'{served.address.partition("/v/")[0]}/neuroglancer/{what}/{key}'


# --- What is opened


def test_a_prediction_knows_its_image_and_its_place(prediction: Path) -> None:
    look = open_look(str(prediction))
    assert [layer.name for layer in look.layers] == ['image', 'refined', 'segments']
    assert [layer.first for layer in look.layers] == [(2, 2, 3), (3, 10, 15), (3, 10, 15)]
    assert look.resolution_nm == NM and not look.left_out and not look.places


def test_voxels_without_a_size_are_placed_by_the_box(tmp_path: Path) -> None:
    look = open_look(str(written(tmp_path, 'tiff', None, None)))
    assert look.resolution_nm is None
    assert [layer.first for layer in look.layers] == [(0, 0, 0), FIRST, FIRST]
    segment_volume(str(tmp_path / 'prediction'), tmp_path / 'neurons')
    assert open_look(str(tmp_path / 'neurons')).layers[-1].first == FIRST


def test_neurons_know_their_prediction(neurons: Path) -> None:
    look = open_look(str(neurons))
    names = [layer.name for layer in look.layers]
    assert names == ['image', 'refined', 'segments', 'neurons']
    assert look.layers[-1].first == (3, 10, 15) and sorted(look.largest) == [1, 2]
    shutil.rmtree(neurons.with_name('prediction'))
    look = open_look(str(neurons))
    assert [layer.name for layer in look.layers] == ['neurons']
    assert look.layers[-1].first == (3, 10, 15) and look.resolution_nm == NM
    (reason,) = look.left_out
    assert 'prediction' in reason


def test_neurons_of_an_array(tmp_path: Path) -> None:
    write_array(tmp_path / 's.h5', SEGMENTS, dataset='a', resolution_nm=NM, offset_nm=OFFSET_NM)
    segment_volume(str(tmp_path / 's.h5'), tmp_path / 'out', Options(format='hdf5'))
    look = open_look(str(tmp_path / 'out'))
    assert [layer.name for layer in look.layers] == ['segments', 'neurons']
    assert [layer.first for layer in look.layers] == [(2, 2, 3)] * 2


@pytest.mark.parametrize('format', ['tiff', 'hdf5', 'zarr3'])
def test_what_predict_writes_in_any_format(format: str, tmp_path: Path) -> None:
    used = tiny()
    stack = np.random.default_rng(0).integers(0, 256, (4, 32, 32)).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('made_up.read_whole', lambda array: array)
        patch.setattr('made_up.open_array', lambda path: path)
        predicted(tmp_path, used, stack, format=format, box='1:3,4:30,0:20', dtype='uint8')
    look = open_look(str(tmp_path / 'out'))
    every = ['image', 'membrane', 'refined', 'attention', 'segments']
    assert [layer.name for layer in look.layers] == every
    assert [layer.array.shape for layer in look.layers] == [(4, 32, 32)] + [(2, 26, 20)] * 4
    assert [layer.first for layer in look.layers] == [(0, 0, 0)] + [(1, 4, 0)] * 4


def test_what_cannot_be_viewed(tmp_path: Path, prediction: Path, refused: Refused) -> None:
    assert '--input' in refused('--mode=view')
    message = refused('--mode=view', f'--input={tmp_path}')
    assert 'prediction.json' in message and str(tmp_path) in message
    for sizes in ('40,4', '40,4,0', '40,4,x'):
        assert '--voxel_nm=z,y,x' in refused(
            '--mode=view', f'--input={prediction}', f'--voxel_nm={sizes}'
        )
    for damaged in ('{}', '[', '{"files": 1}'):
        (prediction / 'prediction.json').write_text(damaged)
        assert 'prediction.json' in refused('--mode=view', f'--input={prediction}')


def test_without_the_package_it_says_how_to_install_it(
    prediction: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'neuroglancer', None)
    assert 'pip install neuroglancer' in refused('--mode=view', f'--input={prediction}')


# --- What is served


@pytest.fixture
def neuroglancer() -> Any:
    return pytest.importorskip('neuroglancer', reason='needs the extra view')


def test_chunks_are_the_arrays_in_their_place(neuroglancer: Any, neurons: Path) -> None:
    look = open_look(str(neurons))
    with serving(look) as served:
        assert served.address.startswith('http://127.0.0.1:')
        assert fetched(served.address).status == 200
        state = served.viewer.state
        assert state.dimensions.names == ('x', 'y', 'z')
        np.testing.assert_allclose(state.dimensions.scales, np.array(NM[::-1]) * 1e-9)
        for layer in look.layers:
            source = state.layers[layer.name].source[0]
            np.testing.assert_array_equal(source.transform.matrix[:, :3], np.eye(3))
            np.testing.assert_array_equal(source.transform.matrix[:, 3], layer.first[::-1])
            info = json.load(fetched(within(served, layer.name, 'info')))
            assert info['shape'] == list(layer.array.shape[::-1])
            packed = fetched(f'{within(served, layer.name, "npz")}/1,1,1/3,2,1/9,8,3').read()
            chunk = np.load(io.BytesIO(zlib.decompress(packed)))
            expected = np.stack([layer.array[z, 2:8, 3:9] for z in (1, 2)])
            np.testing.assert_array_equal(chunk, expected.T)
        for neuron in (1, 2):
            assert fetched(f'{within(served, "neurons", "mesh")}/{neuron}').read()
    with pytest.raises(OSError):
        fetched(served.address)


def test_links_go_to_doubtful_places(neuroglancer: Any, neurons: Path) -> None:
    look = open_look(str(neurons))
    place = layers.Place('split', 0.5, 9, 3, 6, 1, 2, 1, 5, 7)
    look.places = [place]
    with serving(look) as served:
        assert 'href="1"' in fetched(served.places).read().decode()
        assert fetched(f'{served.places}1').url == served.address
        state = served.viewer.state
        assert list(state.position) == [7 + 15 + 0.5, 5 + 10 + 0.5, 1 + 3 + 0.5]
        assert set(state.layers['neurons'].segments) == {1, 2}
        assert set(state.layers['segments'].segments) == {3, 6}
        for wrong in ('0', '2'):
            with pytest.raises(HTTPError, match='404'):
                fetched(f'{served.places}{wrong}')


def test_surfaces_of_large_volumes_are_not_tried(
    neuroglancer: Any, prediction: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('taclnet_jax.viewing.server._MESHED_VOXELS', BOX.size - 1)
    with serving(open_look(str(prediction))) as served, pytest.raises(HTTPError, match='400'):
        fetched(f'{within(served, "segments", "mesh")}/3')


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(neuroglancer: Any, prediction: Path, number: signal.Signals) -> None:
    command = [sys.executable, '-m', 'taclnet_jax.main', '--mode=view', f'--input={prediction}']
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        first, second = (process.stdout.readline() for _ in range(2))
        assert first.startswith('Neuroglancer: http://127.0.0.1:') and 'Ctrl-C' in second
        # In a process of its own: here servers of other tests may complain that they were ended.
        port = first.split(':')[3].split('/')[0]
        taken = subprocess.run(
            [*command, f'--port={port}'], env=environment(), capture_output=True, text=True
        )
        assert taken.returncode == 2 and 'Traceback' not in taken.stderr
        assert f'port {port}' in taken.stderr and '--port' in taken.stderr
        process.send_signal(number)
        assert process.communicate(timeout=30) == ('', '') and process.returncode == 0
    finally:
        process.kill()


# --- What a browser draws


@pytest.fixture
def chromium(tmp_path: Path) -> list[str]:
    """The command that starts a browser without a window, and without a network."""
    program = shutil.which('chromium') or shutil.which('chromium-browser')
    if program is None:
        pytest.skip('needs the browser chromium')
    flags = '--headless=new --no-sandbox --no-first-run --hide-scrollbars --use-angle=swiftshader'
    return [
        program,
        *flags.split(),
        '--enable-unsafe-swiftshader',
        '--proxy-server=127.0.0.1:9',  # nothing is there; loopback goes past it
        f'--user-data-dir={tmp_path / "browser"}',
    ]


@contextmanager
def browser(command: list[str], address: str) -> Iterator[None]:
    process = subprocess.Popen(
        [*command, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.slow
def test_neurons_are_drawn_in_their_colours_and_places(
    neuroglancer: Any, neurons: Path, chromium: list[str]
) -> None:
    with (
        serving(open_look(str(neurons))) as served,
        browser([*chromium, '--window-size=400,300'], served.address),
    ):
        with served.viewer.txn() as state:
            state.layout = 'xy'
            state.position = [15 + 15, 10 + 12, 3 + 1.5]  # the middle of the box
            state.cross_section_scale = 0.2  # voxels in a pixel
            state.show_axis_lines = state.show_scale_bar = False
            state.show_default_annotations = False
        reply = served.viewer.screenshot(size=[400, 300])
    picture = np.asarray(Image.open(io.BytesIO(reply.screenshot.image)).convert('RGB')).astype(int)

    def colour(x: float, y: float) -> np.ndarray:
        """Of a voxel of the box."""
        column, row = 200 + (x + 0.5 - 15) / 0.2, 150 + (y + 0.5 - 12) / 0.2
        return picture[int(row), int(column)]

    def is_grey(rgb: np.ndarray) -> bool:
        return bool(rgb.max() - rgb.min() <= 2)

    # One colour each to the last voxel, and another one beside it.
    left, right = colour(3, 3), colour(25, 3)
    assert not is_grey(left) and not is_grey(right) and np.abs(left - right).max() > 20
    for x, y in ((0, 0), (13, 0), (13, 19)):
        assert np.abs(colour(x, y) - left).max() <= 2
    for x, y in ((16, 0), (29, 0), (16, 19), (26, 19)):
        assert np.abs(colour(x, y) - right).max() <= 2
    # Membrane and what lies beside the box show the image, which is brighter there.
    inside, beside = colour(14.5, 5), colour(10, 21)
    assert is_grey(inside) and is_grey(beside)
    bright = colour(31, 3)  # voxel 43 of the image
    assert is_grey(bright) and bright[0] > inside[0] + 50


@pytest.mark.slow
def test_a_report_opens_from_disk(chromium: list[str], tmp_path: Path) -> None:
    Image.new('RGB', (200, 100), (200, 30, 30)).save(tmp_path / 'red.png')
    text = page.page('Title', [page.picture(tmp_path / 'red.png', 'red')])
    (tmp_path / 'report.html').write_text(text)
    shot = tmp_path / 'shot.png'
    command = [*chromium, '--window-size=500,400', f'--screenshot={shot}']
    subprocess.run(
        [*command, (tmp_path / 'report.html').as_uri()],
        check=True,
        capture_output=True,
        timeout=100,
    )
    pixels = np.asarray(Image.open(shot).convert('RGB')).astype(int)
    red = np.abs(pixels - (200, 30, 30)).max(axis=-1) < 12
    assert abs(int(red.sum()) - 200 * 100) < 600
    rows, columns = np.nonzero(red)
    assert np.ptp(rows) + 1 == 100 and np.ptp(columns) + 1 == 200
    assert (pixels[: rows.min()] < 60).all(axis=-1).any()  # the title above
