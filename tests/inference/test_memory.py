"""No N x N array: a window of 1024x1024 trains and is predicted in memory linear in its pixels."""

from __future__ import annotations

import jax
import numpy as np
from commands import small_config

from taclnet_jax.inference.sections import create_inference
from taclnet_jax.models import create_model
from taclnet_jax.training import parallel
from taclnet_jax.training.state import create_optimizer, create_train_state
from taclnet_jax.training.step import create_step


def problem(side: int):
    config = small_config(crop=(side, side), batch_size=1, model__hidden=(2,))
    model, optimizer = create_model(config), create_optimizer(config, 1)
    state = create_train_state(config, model, optimizer, 1)
    rng = np.random.default_rng(side)
    batch = {
        'image': rng.normal(size=(1, 3, side, side)).astype(np.float32),
        'membrane': rng.integers(0, 2, (1, 3, side, side)).astype(np.uint8),
        'valid': np.ones((1, 3, side, side), np.uint8),
        'sample_id': np.zeros(1, np.int32),
        'symmetry': np.full(1, 5, np.int32),
    }
    return config, model, state, create_step(config, model, optimizer, phase_two=True), batch


def test_training_and_prediction_take_linear_memory() -> None:
    bytes_per_pixel = {'train': [], 'network': [], 'attention': []}
    for side in (256, 1024):
        config, model, state, step, batch = problem(side)
        infer = create_inference(config, model)
        state_on_devices, batch = state.to_devices(), parallel.shard(batch)
        window = np.asarray(batch['image'])[0, 0]
        compiled = {
            'train': step.lower(state_on_devices, batch).compile(),
            'network': infer.network.lower(state.params, window).compile(),
            'attention': infer.attend.lower(window).compile(),
        }
        for name, function in compiled.items():
            memory = function.memory_analysis().temp_size_in_bytes
            bytes_per_pixel[name].append(memory / side**2)
    for name, (small, large) in bytes_per_pixel.items():
        assert large < 1.2 * small + 1, (name, small, large)

    # And it runs, at the largest of them.
    state_on_devices, output = step(state_on_devices, batch)
    assert np.isfinite(np.asarray(output['loss'])).all()
    prob, output = infer(state.params, window, 1, range(3))
    assert jax.tree.map(np.shape, (prob, output.refined)) == ((3, 1024, 1024), (1024, 1024))


def test_tiles_give_what_the_whole_section_gives() -> None:
    config = small_config(model__hidden=(2,))
    model = create_model(config)
    image = np.random.default_rng(0).normal(size=(4, 200, 131)).astype(np.float32)
    params = model.init(jax.random.key(0), image[None, :3, :8, :8])['params']
    whole, of_whole = create_inference(config, model)(params, image, 3, range(4))
    config.evaluate.tile_px, config.evaluate.halo_px = 64, 16
    tiled, of_tiled = create_inference(config, model)(params, image, 3, range(4))
    np.testing.assert_allclose(tiled, whole, atol=1e-6)
    np.testing.assert_allclose(of_tiled.refined, of_whole.refined, atol=1e-5)
