"""What runs on a TPU is lowered for one, without one, and calls nothing back on the host."""

from __future__ import annotations

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from commands import small_config

from taclnet_jax.attention.sta import sta_attention
from taclnet_jax.inference.sections import create_inference
from taclnet_jax.models import create_model
from taclnet_jax.training.state import ITAMemory, TrainState, create_optimizer
from taclnet_jax.training.step import create_step

CROP = 16
SAMPLES = 4
# Host callbacks are custom calls on CPU and GPU, and pairs of send and recv on TPU.
ON_HOST = re.compile(r'callback|stablehlo\.(?:send|recv)\b')


def lowered(function: Any, *arguments: Any, platform: str = 'tpu') -> str:
    """The StableHLO of a function for a platform that need not be there."""
    traced = jax.jit(function).trace(*arguments)
    return traced.lower(lowering_platforms=(platform,)).as_text()


def of_shape(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def config_for(model: str, precision: str) -> Any:
    return small_config(
        model__name=model,
        # Of the recurrent U-Net; the ConvLSTM does not read it.
        model__features=(4, 8),
        crop=(CROP, CROP),
        batch_size=SAMPLES,
        precision=precision,
        attention__backend='xla',
    )


def parameters(config: Any, network: nn.Module) -> Any:
    window = of_shape(1, config.slices, CROP, CROP)
    return jax.eval_shape(network.init, jax.random.key(0), window)['params']


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
    ('model', 'precision'), [('convlstm', 'float32'), ('recurrent_unet', 'bfloat16')]
)
def test_training_step(model: str, precision: str, phase_two: bool) -> None:
    config = config_for(model, precision)
    network, optimizer = create_model(config), create_optimizer(config, 1)
    params = parameters(config, network)
    state = TrainState(
        step=of_shape(dtype=jnp.int32),
        params=params,
        opt_state=jax.eval_shape(optimizer.init, params),
        memory=ITAMemory.create(SAMPLES, (CROP, CROP)),
    )
    # Of one device, with the axis of devices in front.
    state = jax.tree.map(lambda x: of_shape(1, *x.shape, dtype=x.dtype), state)
    windows = (1, SAMPLES, config.slices, CROP, CROP)
    batch = {
        'image': of_shape(*windows),
        'membrane': of_shape(*windows, dtype=jnp.uint8),
        'valid': of_shape(*windows, dtype=jnp.uint8),
        'sample_id': of_shape(1, SAMPLES, dtype=jnp.int32),
        'symmetry': of_shape(1, SAMPLES, dtype=jnp.int32),
    }
    text = lowered(create_step(config, network, optimizer, phase_two), state, batch)
    assert not ON_HOST.search(text)
    assert 'stablehlo.convolution' in text
    assert 'stablehlo.all_reduce' in text  # the gradients' mean over the devices


@pytest.mark.parametrize('model', ['convlstm', 'recurrent_unet'])
def test_inference(model: str) -> None:
    config = config_for(model, 'float32')
    network = create_model(config)
    window = of_shape(config.slices, 40, 24)
    infer = create_inference(config, network)
    assert not ON_HOST.search(lowered(infer.network, parameters(config, network), window))
    assert not ON_HOST.search(lowered(infer.attend, window))


def test_the_search_finds_callbacks() -> None:
    text = lowered(lambda prob: sta_attention(prob).refined, of_shape(3, 20, 24), platform='cpu')
    assert ON_HOST.search(text)
