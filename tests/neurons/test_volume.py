"""--mode=segment: the segments of a prediction, or of an array, become neurons in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_up import image, tiny
from stacks import numbered_through

from taclnet_jax.data.cremi_file import IDS
from taclnet_jax.neurons import agglomerate, joined, region_graph, source, volume
from taclnet_jax.prediction.predict import Options, predict_volume
from taclnet_jax.viewing import open_look
from taclnet_jax.volumes import FORMATS, open_array, read_whole, write_array

RunCommand = Callable[..., tuple[int, str]]
Refused = Callable[..., str]

NM, OFFSET_NM = (40.0, 4.0, 4.0), (80.0, 8.0, 12.0)
TWO = np.array([[1, 1, 1, 0, 2, 2, 2], [1, 1, 0, 0, 2, 2, 2]])
LEFT = np.array([[1, 1, 1, 0, 2, 2, 2], [1, 1, 0, 2, 2, 2, 2]])
STACK = numbered_through(np.stack([TWO, LEFT, 0 * TWO, TWO])).astype(np.uint16)
NEURONS = [section.tolist() for section in (TWO, LEFT, 0 * TWO, TWO)]


def command(source: Path, output: Path, *flags: str) -> list[str]:
    return ['--mode=segment', f'--input={source}', f'--output={output}', *flags]


@pytest.fixture
def segments(tmp_path: Path) -> Path:
    write_array(tmp_path / 'segments.tif', STACK, resolution_nm=NM)
    return tmp_path / 'segments.tif'


@pytest.fixture
def neurons(segments: Path, tmp_path: Path, run_command: RunCommand) -> Path:
    """Joined from `segments`."""
    status, output = run_command(*command(segments, tmp_path / 'neurons'))
    assert status == 0, output
    return tmp_path / 'neurons'


def read(folder: Path, name: str = 'neurons.tif') -> np.ndarray:
    return read_whole(open_array(folder / name))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_segments_become_neurons(neurons: Path, run_command: RunCommand, segments: Path) -> None:
    assert read(neurons).tolist() == NEURONS
    found = open_array(neurons / 'neurons.tif')
    assert found.dtype == np.uint32 and found.resolution_nm == NM
    assert sorted(contents(neurons)) == [
        'doubtful.csv',
        'graph.npz',
        'neurons.json',
        'neurons.tif',
        'report.html',
    ]
    about = json.loads((neurons / 'neurons.json').read_text())
    assert (about['segments'], about['neurons'], about['join_threshold']) == (6, 2, 0.2)
    status, output = run_command(*command(segments, neurons.with_name('again')))
    assert status == 0 and '6 segments are 2 neurons.' in output
    assert str(neurons.with_name('again') / 'neurons.tif') in output


@pytest.mark.parametrize('format', [name for name in FORMATS if name != 'png'])
def test_any_format_that_holds_the_numbers(
    format: str, tmp_path: Path, run_command: RunCommand
) -> None:
    write_array(tmp_path / 'in.h5', STACK, dataset='a/b', resolution_nm=NM, offset_nm=OFFSET_NM)
    write_array(tmp_path / 'in.h5', STACK, dataset='other')
    flags = '--input_dataset=a/b', f'--format={format}'
    status, output = run_command(*command(tmp_path / 'in.h5', tmp_path / 'out', *flags))
    assert status == 0, output
    about = json.loads((tmp_path / 'out' / 'neurons.json').read_text())
    file = tmp_path / 'out' / about['files']['neurons']
    found = open_array(file, dataset=IDS if format == 'hdf5' else '')
    assert read_whole(found).tolist() == NEURONS
    assert found.dtype == np.uint32
    assert found.resolution_nm == pytest.approx(NM)
    assert about['offset_nm'] == list(OFFSET_NM)
    if format != 'tiff':
        assert found.offset_nm == pytest.approx(OFFSET_NM)


@pytest.mark.parametrize('format', ['tiff', 'png', 'hdf5', 'zarr3'])
def test_the_segments_of_a_prediction(format: str, tmp_path: Path, run_command: RunCommand) -> None:
    write_array(tmp_path / 'stack.tif', image((5, 40, 44)), resolution_nm=NM)
    options = Options(names=('membrane', 'segments'), format=format)
    files = predict_volume(tiny(), str(tmp_path / 'stack.tif'), tmp_path / 'predicted', options)
    status, output = run_command(*command(tmp_path / 'predicted', tmp_path / 'neurons'))
    assert status == 0, output
    stack = read_whole(open_array(files['segments'], dataset=IDS if format == 'hdf5' else ''))
    graph = region_graph(stack)
    expected = read_whole(joined(stack, graph, agglomerate(graph)))
    np.testing.assert_array_equal(read(tmp_path / 'neurons'), expected)
    assert expected.max() < stack.max()
    assert open_array(tmp_path / 'neurons' / 'neurons.tif').resolution_nm == NM


def test_a_voxel_size_that_is_given_is_carried_on(
    segments: Path, tmp_path: Path, run_command: RunCommand
) -> None:
    given = command(segments, tmp_path / 'out', '--voxel_nm=30,6,6')
    status, output = run_command(*given)
    assert status == 0, output
    assert open_array(tmp_path / 'out' / 'neurons.tif').resolution_nm == (30, 6, 6)
    about = json.loads((tmp_path / 'out' / 'neurons.json').read_text())
    assert about['resolution_nm'] == [30, 6, 6]
    assert open_look(str(tmp_path / 'out')).resolution_nm == (30, 6, 6)


def test_the_first_voxel_of_a_prediction_keeps_its_number(tmp_path: Path) -> None:
    write_array(tmp_path / 'stack.tif', image((6, 40, 44)), resolution_nm=NM)
    chosen = Options(names=('segments',), box='2:6,8:40,12:44')
    predict_volume(tiny(), str(tmp_path / 'stack.tif'), tmp_path / 'prediction', chosen)
    told = volume.Options(voxel_nm=(30, 6, 6), format='precomputed')
    volume.segment_volume(str(tmp_path / 'prediction'), tmp_path / 'out', told)
    about = json.loads((tmp_path / 'out' / 'neurons.json').read_text())
    assert about['offset_nm'] == [60, 48, 72]
    look = open_look(str(tmp_path / 'out'))
    assert look.resolution_nm == (30, 6, 6)
    assert {layer.first for layer in look.layers if layer.name != 'image'} == {(2, 8, 12)}
    (tmp_path / 'prediction' / 'segments.tif').unlink()
    assert open_look(str(tmp_path / 'out')).resolution_nm == (30, 6, 6)


def test_another_threshold_reads_the_graph(
    segments: Path, neurons: Path, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(*args: object) -> None:
        raise AssertionError('The graph was made again.')

    monkeypatch.setattr(volume, 'region_graph', made)
    again = command(segments, neurons, '--join_threshold=1', '--overwrite')
    status, output = run_command(*again)
    assert status == 0, output
    assert len(np.unique(read(neurons))) == 1 + 3  # one changes its outline
    os.utime(segments, (1, 1))  # as if the segments were others now
    status, output = run_command(*again)
    assert status == 1 and 'The graph was made again.' in output
    # Nor is it known whether what lies at an address is what it was.
    about = json.loads((neurons / 'neurons.json').read_text())
    about['input'][-1] = ''
    (neurons / 'neurons.json').write_text(json.dumps(about))
    monkeypatch.setattr(source, 'stamp', lambda path: '')
    status, output = run_command(*again)
    assert status == 1 and 'The graph was made again.' in output


def test_what_the_mask_leaves_out_is_no_neuron(
    segments: Path, tmp_path: Path, run_command: RunCommand
) -> None:
    mask = np.ones(STACK.shape, np.uint8)
    mask[:, :, 4:] = 0
    write_array(tmp_path / 'mask.h5', mask, dataset='mask')
    flags = f'--mask={tmp_path / "mask.h5"}', '--mask_dataset=mask'
    status, output = run_command(*command(segments, tmp_path / 'out', *flags))
    assert status == 0, output
    found = read(tmp_path / 'out')
    assert not found[:, :, 4:].any() and found[0, 0, :4].tolist() == [1, 1, 1, 0]


def test_older_neurons_are_replaced_only_when_told(
    segments: Path, neurons: Path, refused: Refused
) -> None:
    before = contents(neurons)
    assert '--overwrite' in refused(*command(segments, neurons))
    assert contents(neurons) == before


def test_something_else_is_never_replaced(
    segments: Path, neurons: Path, tmp_path: Path, refused: Refused
) -> None:
    (neurons / 'mine.txt').write_text('mine')
    assert 'mine.txt' in refused(*command(segments, neurons, '--overwrite'))
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'mine').touch()
    (tmp_path / 'other' / 'neurons.json').write_text('[]')
    assert 'something else' in refused(*command(segments, tmp_path / 'other', '--overwrite'))
    assert 'is a file' in refused(*command(segments, segments, '--overwrite'))
    assert 'a folder of this machine' in refused(*command(segments, 'gs://bucket/neurons'))
    assert not (tmp_path / 'gs:').exists() and not Path('gs:').exists()
    assert (neurons / 'mine.txt').read_text() == 'mine'


def test_nothing_is_half_written(
    segments: Path, neurons: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(volume, 'write_array', full)
    before = contents(neurons)
    assert 'No space left' in refused(*command(segments, neurons, '--overwrite'))
    assert 'No space left' in refused(*command(segments, neurons.with_name('new')))
    assert contents(neurons) == before
    assert sorted(path.name for path in neurons.parent.iterdir()) == ['neurons', 'segments.tif']


def test_a_damaged_graph_is_refused_and_made_again_without_it(
    segments: Path, neurons: Path, refused: Refused, run_command: RunCommand
) -> None:
    (neurons / 'graph.npz').write_bytes(b'PK\x03\x04')
    assert 'graph.npz; remove it' in refused(*command(segments, neurons, '--overwrite')).replace(
        ', found a file that is damaged or something else', ''
    )
    (neurons / 'graph.npz').unlink()
    status, output = run_command(*command(segments, neurons, '--overwrite'))
    assert status == 0, output
    assert (neurons / 'graph.npz').exists() and read(neurons).tolist() == NEURONS


@pytest.mark.parametrize(
    ('flags', 'told'),
    [
        (['--join_threshold=1.5'], 'join_threshold'),
        (['--format=png'], 'PNG cannot hold'),
        (['--input_dataset=main'], 'no dataset'),
        (['--mask={small}'], '(4, 2, 7); found (4, 2, 6)'),
        (['--mask={empty}'], '0 throughout'),
        (['--mask={folder}/none.tif'], 'none.tif'),
        (['--input={empty}'], 'all is membrane'),
        (['--input={maps}'], 'found float32'),
        (['--input={again}'], 'found id 1 in sections 0 and 1'),
        (['--input={folder}/none'], 'no such file or folder'),
        (
            ['--input={again}', '--format=precomputed'],
            'Expected a voxel size for neurons: precomputed',
        ),
        (['--input='], 'Expected --input'),
        (['--output='], 'Expected --output'),
    ],
)
def test_bad_input(
    flags: list[str], told: str, segments: Path, tmp_path: Path, refused: Refused
) -> None:
    stacks = {
        'small': np.ones((4, 2, 6), np.uint8),
        'empty': np.zeros(STACK.shape, np.uint8),
        'maps': np.ones((2, 3, 3), np.float32),
        'again': np.ones((2, 3, 3), np.uint8),
    }
    for name, stack in stacks.items():
        write_array(tmp_path / f'{name}.tif', stack)
    paths = {name: tmp_path / f'{name}.tif' for name in stacks} | {'folder': tmp_path}
    given = [flag.format(**paths) for flag in flags]
    assert told in refused(*command(segments, tmp_path / 'out', *given))
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('about', 'flags', 'told'),
    [
        (
            '{"files": {"membrane": "m.tif"}, "resolution_nm": null, "offset_nm": null}',
            [],
            '--names=segments',
        ),
        ('{"files": 3}', [], 'damaged'),
        ('{', [], 'damaged'),
        ('{"files": {}}', ['--input_dataset=x'], 'Expected no dataset'),
    ],
)
def test_bad_predictions(
    about: str, flags: list[str], told: str, tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / 'predictions').mkdir()
    (tmp_path / 'predictions' / 'prediction.json').write_text(about)
    assert told in refused(*command(tmp_path / 'predictions', tmp_path / 'out', *flags))


def test_neurons_inside_of_their_prediction_keep_their_graph(
    segments: Path, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = segments.parent
    about = {'files': {'segments': segments.name}, 'resolution_nm': NM, 'offset_nm': OFFSET_NM}
    (folder / 'prediction.json').write_text(json.dumps(about))
    again = command(folder, folder / 'neurons')
    assert run_command(*again)[0] == 0
    monkeypatch.setattr(volume, 'region_graph', None)
    status, output = run_command(*again, '--join_threshold=1', '--overwrite')
    assert status == 0, output


def test_what_a_format_cannot_hold_is_told_before_the_work(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = {'resolution_nm': NM, 'offset_nm': (0.0, 1.0, 1.0)}
    write_array(tmp_path / 'segments.h5', STACK, dataset=IDS, **odd)
    monkeypatch.setattr(volume, 'region_graph', None)
    told = refused(
        *command(tmp_path / 'segments.h5', tmp_path / 'out', '--format=precomputed'),
        f'--input_dataset={IDS}',
    )
    assert 'as whole voxels, which precomputed needs' in told
    assert not (tmp_path / 'out').exists()
