"""No N x N array: a window of 512x512 trains and is predicted in memory linear in its pixels."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from commands import small_settings

from taclnet_jax.data.volume import Volume
from taclnet_jax.inference.sections import create_inference
from taclnet_jax.training import parallel
from taclnet_jax.training.setup import Training, prepare


def problem(side: int) -> tuple[Training, Any]:
    """A training on one crop of noise, and its batch."""
    settings = small_settings(
        crop=(side, side), batch_size=1, crops_limit=1, validation_sections=0, model__hidden=(2,)
    )
    rng = np.random.default_rng(side)
    shape = (9, side, side)
    volume = Volume(
        'noise', rng.integers(0, 256, shape, np.uint8), rng.random(shape) < 0.5, None, (40, 4, 4)
    )
    training = prepare(settings, volume)
    return training, training.loader.batch(0, 0)


@pytest.mark.slow
def test_training_and_prediction_take_linear_memory() -> None:
    bytes_per_pixel: dict[str, list[float]] = {'train': [], 'network': [], 'attention': []}
    for side in (256, 512):
        training, batch = problem(side)
        options = training.settings.inference_options
        infer = create_inference(training.network, views=1, **options)
        step = training.create_step(phase_two=True)
        variables = training.new.variables
        state, shards = training.new.to_devices(), parallel.shard(batch)
        window = np.asarray(batch['image'])[0]
        compiled = {
            'train': step.lower(state, shards).compile(),
            'network': infer.network.lower(variables, window).compile(),
            'attention': infer.attend.lower(window).compile(),
        }
        for name, function in compiled.items():
            memory = function.memory_analysis().temp_size_in_bytes
            bytes_per_pixel[name].append(memory / side**2)
    for name, (small, large) in bytes_per_pixel.items():
        assert large < 1.2 * small + 1, (name, small, large)

    # And it runs, at the largest of them.
    _, output = step(state, shards)
    assert np.isfinite(np.asarray(output['loss'])).all()
    prob, output = infer(variables, window, 1, range(3))
    assert jax.tree.map(np.shape, (prob, output.refined)) == ((3, 512, 512), (512, 512))
