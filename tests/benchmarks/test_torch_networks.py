"""The networks in PyTorch are those of this package."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from commands import small_settings

from benchmarks.step import cases
from taclnet_jax.models import create_model

torch = pytest.importorskip('torch')


@pytest.mark.parametrize(('_', 'name', 'slices', 'changes'), list(cases([1, 3])))
def test_they_have_as_many_parameters_and_outputs(
    _: str, name: str, slices: int, changes: dict[str, Any]
) -> None:
    from benchmarks import torch_networks

    settings = small_settings(**changes).model
    image = jnp.zeros((2, slices, 20, 28))
    network = create_model(settings, 'float32')
    ours = jax.eval_shape(network.init, jax.random.key(0), image)['params']
    theirs = torch_networks.NETWORKS[name](slices)
    count = sum(x.numel() for x in theirs.parameters())
    assert count == sum(x.size for x in jax.tree.leaves(ours))
    iterations = 2 if name == 'flagship' else 1
    assert theirs(torch.zeros(2, slices, 40, 56)).shape == (iterations, 2, slices, 40, 56)
