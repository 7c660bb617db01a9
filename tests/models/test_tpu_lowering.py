"""What runs on a TPU is lowered for one, without one, and calls nothing back on the host."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import small_settings

from benchmarks.on_device import network_settings
from taclnet_jax.attention.sta import sta_attention
from taclnet_jax.inference.sections import create_inference
from taclnet_jax.topology import persistence_pairs
from taclnet_jax.training.setup import Training, prepare

CROP = 16
SAMPLES = 4
# Host callbacks are custom calls on CPU and GPU, and pairs of send and recv on TPU.
ON_HOST = re.compile(r'callback|stablehlo\.(?:send|recv)\b')


def lowered(function: Any, *arguments: Any, platform: str = 'tpu') -> str:
    """The StableHLO of a function for a platform that need not be there."""
    if not hasattr(function, 'trace'):
        function = jax.jit(function)
    return function.trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


def of_shape(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def training_for(model: str, precision: str) -> Training:
    """Of a small network, on the synthetic volume."""
    return prepare(
        small_settings(
            **network_settings(model, quick=True),
            crop=(CROP, CROP),
            batch_size=SAMPLES,
            precision=precision,
            attention__backend='xla',
        )
    )


@pytest.mark.parametrize('border', ['membrane', 'open'])
@pytest.mark.parametrize('dimension', [0, 1])
def test_persistence(dimension: int, border: str) -> None:
    def pairs(prob: jax.Array) -> Any:
        return persistence_pairs(prob, dimension=dimension, border=border, backend='xla')

    text = lowered(pairs, of_shape(2, 20, 24))
    assert not ON_HOST.search(text)
    assert 'stablehlo.while' in text and 'stablehlo.sort' in text


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_attention_and_its_gradient(dtype: Any) -> None:
    def loss(prob: jax.Array) -> tuple[jax.Array, Any]:
        output = sta_attention(prob, backend='xla')
        return jnp.sum(output.refined), output

    prob = of_shape(2, 3, 20, 24, dtype=dtype)
    text = lowered(jax.value_and_grad(loss, has_aux=True), prob)
    assert not ON_HOST.search(text)
    assert 'stablehlo.while' in text  # persistence is in there


@pytest.mark.parametrize('phase_two', [False, True])
@pytest.mark.parametrize(
    ('model', 'precision'),
    [
        pytest.param('convlstm', 'float32', marks=pytest.mark.slow),
        ('flagship', 'float32'),
        pytest.param('flagship', 'bfloat16', marks=pytest.mark.slow),
    ],
)
def test_training_step(model: str, precision: str, phase_two: bool) -> None:
    training = training_for(model, precision)
    # Of one device, with the axis of devices in front.
    state, batch = jax.tree.map(
        lambda x: of_shape(1, *np.shape(x), dtype=np.asarray(x).dtype),
        (training.new, training.loader.batch(0, 0)),
    )
    step: Any = training.create_step(phase_two)
    text = lowered(step.__wrapped__, state, batch)  # of `jax.pmap`, which can be traced
    assert not ON_HOST.search(text)
    assert 'stablehlo.convolution' in text
    assert 'stablehlo.all_reduce' in text  # the gradients' mean over the devices


@pytest.mark.parametrize(
    ('model', 'precision'),
    [('convlstm', 'float32'), ('flagship', 'float32'), ('flagship', 'bfloat16')],
)
def test_inference(model: str, precision: str) -> None:
    training = training_for(model, precision)
    infer = create_inference(training.network, views=1, **training.settings.inference_options)
    window = of_shape(infer.slices, 40, 24)
    assert not ON_HOST.search(lowered(infer.network, training.new.variables, window))
    assert not ON_HOST.search(lowered(infer.attend, window))


def test_the_search_finds_callbacks() -> None:
    text = lowered(lambda prob: sta_attention(prob).refined, of_shape(3, 20, 24), platform='cpu')
    assert ON_HOST.search(text)
