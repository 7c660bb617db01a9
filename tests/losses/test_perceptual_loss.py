"""VGG19's features against SciPy, and its weights read without PyTorch."""

from __future__ import annotations

import re
import tracemalloc
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
from taclnet_jax.training.vgg19 import load_vgg19


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='No such file'):
        load_vgg19(tmp_path / 'none.npz')
    path = tmp_path / 'weights.npz'
    path.write_bytes(b'no weights')
    with pytest.raises(InputError, match='to be an .npz'):
        load_vgg19(path)
    np.savez(path, **{'features.0.weight': np.zeros((64, 3, 3, 3))})
    with pytest.raises(InputError, match='found.*features.0.bias'):
        load_vgg19(path)
    whole = path.read_bytes()
    for size in range(0, len(whole), len(whole) // 7):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match='weights.npz'):
            load_vgg19(path)


@pytest.mark.parametrize('shape', [(10**9, 3, 3, 3), (10**18,), (64, 3, 3), (), (0,)])
def test_a_header_is_believed_only_if_it_says_what_is_expected(tmp_path: Path, shape: Any) -> None:
    header = {'descr': '<f4', 'fortran_order': False, 'shape': shape}
    with (
        zipfile.ZipFile(tmp_path / 'w.npz', 'w') as archive,
        archive.open('features.0.weight.npy', 'w') as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
    assert (tmp_path / 'w.npz').stat().st_size < 400
    tracemalloc.start()
    with pytest.raises(InputError, match=re.escape(f'of shape {shape}')):
        load_vgg19(tmp_path / 'w.npz')
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_weights_that_end_early_and_files_of_torch_are_refused(tmp_path: Path) -> None:
    header = {'descr': '<f4', 'fortran_order': False, 'shape': (64, 3, 3, 3)}
    with (
        zipfile.ZipFile(tmp_path / 'w.npz', 'w') as archive,
        archive.open('features.0.weight.npy', 'w') as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(100))
    with zipfile.ZipFile(tmp_path / 'vgg19.pth', 'w') as archive:  # as torch.save writes it
        archive.writestr('vgg19/data.pkl', b'')
    for name in ('w.npz', 'vgg19.pth'):
        with pytest.raises(InputError, match='make one of a .pth file'):
            load_vgg19(tmp_path / name)


class Attack:
    def __reduce__(self) -> Any:
        return (open, ('attacked', 'w'))


def test_a_file_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez('weights.npz', **{'features.0.weight': np.array([Attack()], object)})
    with pytest.raises(InputError, match='to be an .npz'):
        load_vgg19('weights.npz')
    assert not Path('attacked').exists()


def test_random_weights_keep_the_size_of_features() -> None:
    for layer in load_vgg19().values():  # He et al. 2015: a variance of 2 by the number of inputs
        kernel = layer['kernel']
        np.testing.assert_allclose(kernel.std(), (2 / kernel[..., 0].size) ** 0.5, rtol=0.1)
        assert not layer['bias'].any()


def test_weights_of_a_file_become_the_parameters(tmp_path: Path) -> None:
    random = load_vgg19()
    # torchvision's numbering of the convolutions of the first three blocks.
    places = [0, 2, 5, 7, 10, 12, 14, 16]
    arrays = {}
    for place, layer in zip(places, random.values(), strict=True):
        arrays[f'features.{place}.weight'] = layer['kernel'].transpose(3, 2, 0, 1) / 2
        arrays[f'features.{place}.bias'] = layer['bias'] + 1
    arrays['classifier.0.bias'] = np.zeros(3)
    np.savez(tmp_path / 'vgg19.npz', **arrays)
    params = load_vgg19(tmp_path / 'vgg19.npz')
    assert list(params) == ['conv1_1', 'conv1_2', 'conv2_1', 'conv2_2'] + [
        f'conv3_{i}' for i in (1, 2, 3, 4)
    ]
    for name, layer in params.items():
        np.testing.assert_array_equal(layer['kernel'], random[name]['kernel'] / 2)
        np.testing.assert_array_equal(layer['bias'], random[name]['bias'] + 1)


def test_features_follow_the_definition() -> None:
    params = load_vgg19()
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
    params = load_vgg19()
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
    params = load_vgg19()
    prob, truth = (jax.random.uniform(jax.random.key(i), (2, 3, 8, 8)) for i in range(2))
    layers = ['relu1_2', 'relu2_2']
    got = perceptual_distance(params, prob, truth, layers)
    pairs = zip(*(vgg19_features(params, x, layers) for x in (prob, truth)), strict=True)
    np.testing.assert_allclose(got, sum(jnp.mean((a - b) ** 2) for a, b in pairs), rtol=1e-5)
