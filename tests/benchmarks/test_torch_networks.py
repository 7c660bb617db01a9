"""The networks in PyTorch are those of this package."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from commands import small_settings

from benchmarks.on_device import NETWORKS, network_settings
from taclnet_jax.models import create_model

torch = pytest.importorskip('torch')


@pytest.mark.parametrize('slices', [1, 3])
@pytest.mark.parametrize('name', NETWORKS)
def test_they_have_as_many_parameters_and_outputs(name: str, slices: int) -> None:
    from benchmarks import torch_networks

    settings = small_settings(**network_settings(name, quick=False)).model
    image = jnp.zeros((2, slices, 20, 28))
    network = create_model(settings, 'float32')
    ours = jax.eval_shape(network.init, jax.random.key(0), image)['params']
    theirs = torch_networks.NETWORKS[name](slices)
    count = sum(x.numel() for x in theirs.parameters())
    assert count == sum(x.size for x in jax.tree.leaves(ours))
    iterations = 2 if name == 'flagship' else 1
    assert theirs(torch.zeros(2, slices, 40, 56)).shape == (iterations, 2, slices, 40, 56)
