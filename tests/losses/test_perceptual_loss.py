"""VGG19's features against SciPy, and its weights read without PyTorch."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import correlate

from taclnet_jax.errors import InputError
from taclnet_jax.losses.perceptual import perceptual_distance, vgg19_features
from taclnet_jax.training.vgg19 import load_vgg19, read_state_dict

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def operation(value: Any) -> bytes:
    """Pickle operations that push a value, without header and stop."""
    return pickle.dumps(value, 2)[2:-1]


def pickled_state(tensors: dict[str, np.ndarray], legacy: bool, parameter: bool = False) -> bytes:
    """The pickle that `torch.save` writes of a state dict, operation by operation."""
    out = b'\x80\x02ccollections\nOrderedDict\n)R('
    for key, (name, array) in enumerate(tensors.items()):
        kind = {'f': b'FloatStorage', 'd': b'DoubleStorage', 'l': b'LongStorage'}[array.dtype.char]
        strides = tuple(s // array.itemsize for s in array.strides)
        out += operation(name)
        if parameter:
            out += b'ctorch.nn.parameter\nParameter\n('
        out += b'ctorch._utils\n_rebuild_tensor_v2\n('
        out += b'(' + operation('storage') + b'ctorch\n' + kind + b'\n' + operation(str(key))
        out += operation('cpu') + operation(array.size) + (b'N' if legacy else b'') + b'tQ'
        out += operation(0) + operation(array.shape) + operation(strides)
        out += b'\x89ccollections\nOrderedDict\n)RtR'
        if parameter:
            out += b'tR' + operation((True, False, {})) + b'b'
    return out + b'u.'


def write_zip(path: Path, pickled: bytes, storages: list[bytes]) -> None:
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('weights/data.pkl', pickled)
        for key, storage in enumerate(storages):
            archive.writestr(f'weights/data/{key}', storage)


def write_legacy(path: Path, pickled: bytes, storages: list[np.ndarray]) -> None:
    with open(path, 'wb') as file:
        for value in (LEGACY_MAGIC, 1001, {'little_endian': True}):
            pickle.dump(value, file, 2)
        file.write(pickled)
        pickle.dump([str(key) for key in range(len(storages))], file, 2)
        for storage in storages:
            file.write(struct.pack('<q', storage.size) + storage.tobytes('A'))


@pytest.fixture
def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        'weight': rng.normal(size=(2, 3, 4)).astype(np.float32),
        'turned': np.asfortranarray(rng.normal(size=(3, 5))),
        'count': np.array(7),
    }


@pytest.mark.parametrize('form', ['zip', 'legacy', 'parameters'])
def test_state_dicts_are_read_without_torch(
    tmp_path: Path, tensors: dict[str, np.ndarray], form: str
) -> None:
    path = tmp_path / 'weights.pth'
    if form == 'zip':
        storages = [x.tobytes('A') for x in tensors.values()]
        write_zip(path, pickled_state(tensors, legacy=False), storages)
    else:
        pickled = pickled_state(tensors, legacy=True, parameter=form == 'parameters')
        write_legacy(path, pickled, list(tensors.values()))
    got = read_state_dict(path)
    assert list(got) == list(tensors)
    for name, expected in tensors.items():
        assert type(got[name]) is np.ndarray and got[name].dtype == expected.dtype
        np.testing.assert_array_equal(got[name], expected)


@pytest.mark.parametrize('zipped', [True, False])
def test_what_torch_writes_is_read(tmp_path: Path, zipped: bool) -> None:
    torch = pytest.importorskip('torch', reason='PyTorch is not installed')
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).half()
    shared = torch.arange(12.0)
    state = layer.state_dict()
    state['part'], state['turned'] = shared[3:7], shared.reshape(3, 4).T
    state['parameter'] = torch.nn.Parameter(shared * 2)
    path = tmp_path / 'weights.pth'
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    got = read_state_dict(path)
    assert list(got) == list(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(got[name], tensor.detach().numpy())


class Attack:
    def __reduce__(self) -> Any:
        return (open, ('attacked', 'w'))


def test_a_state_dict_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensors: dict[str, np.ndarray]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_zip(tmp_path / 'zip.pth', pickle.dumps({'weight': Attack()}, 2), [])
    write_legacy(tmp_path / 'legacy.pth', pickle.dumps({'weight': Attack()}, 2), [])
    (tmp_path / 'plain.pth').write_bytes(pickle.dumps(Attack(), 2))
    for name in ('zip', 'legacy', 'plain'):
        with pytest.raises(InputError, match='is not a tensor'):
            read_state_dict(f'{name}.pth')
    assert not (tmp_path / 'attacked').exists()


@pytest.mark.parametrize('count', [23, 10**12])
def test_tensors_beyond_their_storage_are_refused(tmp_path: Path, count: int) -> None:
    path, tensors = tmp_path / 'weights.pth', {'weight': np.zeros((4, 6), np.float32)}
    for legacy in (True, False):
        pickled = pickled_state(tensors, legacy)
        assert pickled.count(operation(24)) == 1
        pickled = pickled.replace(operation(24), operation(count))
        if legacy:
            write_legacy(path, pickled, [np.zeros(23, np.float32)])
        else:
            write_zip(path, pickled, [bytes(4 * 23)])
        with pytest.raises(InputError, match='numbers'):
            read_state_dict(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='No such file'):
        load_vgg19(tmp_path / 'none.pth')
    path = tmp_path / 'weights.pth'
    path.write_bytes(b'no weights')
    with pytest.raises(InputError, match='state dict'):
        load_vgg19(path)
    write_zip(path, pickle.dumps([1, 2], 2), [])
    with pytest.raises(InputError, match='tensors by name'):
        load_vgg19(path)
    (tmp_path / 'weights.npz').write_bytes(b'no weights')
    with pytest.raises(InputError, match='Cannot read'):
        load_vgg19(tmp_path / 'weights.npz')
    np.savez(path.with_suffix('.npz'), **{'features.0.weight': np.zeros((64, 3, 3, 3))})
    with pytest.raises(InputError, match=r'features\.0\.bias.*found \[\(64, 3, 3, 3\), None\]'):
        load_vgg19(path.with_suffix('.npz'))


def test_weights_of_a_file_become_the_parameters(tmp_path: Path) -> None:
    random, description = load_vgg19()
    assert 'random' in description
    # torchvision's numbering of the convolutions of the first three blocks.
    places = [0, 2, 5, 7, 10, 12, 14, 16]
    arrays = {}
    for place, layer in zip(places, random.values(), strict=True):
        arrays[f'features.{place}.weight'] = layer['kernel'].transpose(3, 2, 0, 1) / 2
        arrays[f'features.{place}.bias'] = layer['bias'] + 1
    arrays['classifier.0.bias'] = np.zeros(3)
    np.savez(tmp_path / 'vgg19.npz', **arrays)
    params, description = load_vgg19(tmp_path / 'vgg19.npz')
    assert 'vgg19.npz' in description
    assert list(params) == ['conv1_1', 'conv1_2', 'conv2_1', 'conv2_2'] + [
        f'conv3_{i}' for i in (1, 2, 3, 4)
    ]
    for name, layer in params.items():
        np.testing.assert_array_equal(layer['kernel'], random[name]['kernel'] / 2)
        np.testing.assert_array_equal(layer['bias'], random[name]['bias'] + 1)


def test_features_follow_the_definition() -> None:
    params, _ = load_vgg19()
    image = np.random.default_rng(0).random((6, 7))
    x = (image - np.array([0.485, 0.456, 0.406])[:, None, None]) / np.array([0.229, 0.224, 0.225])[
        :, None, None
    ]
    expected = []
    for name in ('conv1_1', 'conv1_2', 'conv2_1'):
        if name == 'conv2_1':
            x = x[:, :, :6].reshape(len(x), 3, 2, 3, 2).max((2, 4))
        kernel, bias = params[name]['kernel'], params[name]['bias']
        x = np.stack(
            [
                sum(
                    correlate(channel, kernel[:, :, c, f], mode='constant')
                    for c, channel in enumerate(x)
                )
                + bias[f]
                for f in range(len(bias))
            ]
        )
        x = np.maximum(x, 0)
        expected.append(x.transpose(1, 2, 0))
    got = vgg19_features(params, jnp.asarray(image), ['relu1_2', 'relu2_1'])
    for ours, theirs in zip(got, expected[1:], strict=True):
        np.testing.assert_allclose(ours[0], theirs, atol=1e-4)
    with pytest.raises(ValueError, match='relu4_1'):
        vgg19_features(params, jnp.asarray(image), ['relu4_1'])


def test_a_gap_is_farther_than_a_faint_stretch() -> None:
    params, _ = load_vgg19()
    truth = np.zeros((2, 16, 16), np.float32)
    truth[:, 7:9] = 1
    gap, faint = truth.copy(), truth.copy()
    gap[:, :, 6:10] = 0
    faint[:, :, 6:10] *= 0.8
    distance = jax.jit(lambda prob: perceptual_distance(params, prob, jnp.asarray(truth)))
    assert distance(jnp.asarray(truth)) == 0
    assert distance(jnp.asarray(gap)) > 4 * distance(jnp.asarray(faint)) > 0
    slope = jax.grad(lambda prob: perceptual_distance(params, prob, truth, ['relu1_2']))(faint)
    assert np.isfinite(slope).all() and np.abs(slope[:, 7:9, 6:10]).min() > 0


def test_distance_is_the_sum_over_layers_of_the_mean_squares() -> None:
    params, _ = load_vgg19()
    prob, truth = (jax.random.uniform(jax.random.key(i), (2, 3, 8, 8)) for i in range(2))
    layers = ['relu1_2', 'relu2_2']
    got = perceptual_distance(params, prob, truth, layers)
    pairs = zip(*(vgg19_features(params, x, layers) for x in (prob, truth)), strict=True)
    np.testing.assert_allclose(got, sum(jnp.mean((a - b) ** 2) for a, b in pairs), rtol=1e-5)


def test_pickles_written_by_hand_are_pickles() -> None:
    # The helper above is only as good as its operations: the standard library reads them too.
    assert pickle.load(io.BytesIO(b'\x80\x02' + operation((1, 'a')) + b'.')) == (1, 'a')
