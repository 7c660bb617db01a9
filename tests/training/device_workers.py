"""What tests run in processes with several CPU devices: python device_workers.py NAME OUTPUT."""

from __future__ import annotations

import sys

import jax
import numpy as np
from commands import small_config

from taclnet_jax.data.loader import WindowLoader
from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.data.windows import grid_samples
from taclnet_jax.models import create_model
from taclnet_jax.training import parallel
from taclnet_jax.training.state import TrainState, create_optimizer, create_train_state
from taclnet_jax.training.step import create_step

ITA_EPOCHS = 3


def ita_problem():
    """Config, loader and first state of a run whose parameters never change."""
    config = small_config(phase_two__learning_rate=0.0, phase_one__learning_rate=0.0)
    volume = synthetic_volume(shape=tuple(config.synthetic.shape))
    samples = grid_samples((range(5),), volume.shape[1:], tuple(config.crop))
    loader = WindowLoader(volume, samples, 3, config.batch_size, config.seed, config.augment)
    optimizer = create_optimizer(config, loader.steps_per_epoch)
    state = create_train_state(config, create_model(config), optimizer, len(samples))
    # At the start all probabilities are about 0.5: scale the logits so that there are loops.
    params = jax.tree.map(lambda x: x * 3, state.params)
    return config, loader, optimizer, state.replace(params=params)


def ita(output: str) -> None:
    """Saves the ITA memory after each of a few epochs of the real training step."""
    config, loader, optimizer, state = ita_problem()
    samples = len(loader.samples)
    step = create_step(config, create_model(config), optimizer, phase_two=True)
    state = state.to_devices()
    memories = []
    for epoch in range(ITA_EPOCHS):
        state = state.replace(memory=state.memory.begin_epoch())
        for i in range(loader.steps_per_epoch):
            state, _ = step(state, parallel.shard(loader.batch(epoch, i)))
        memories.append(state.to_host(samples).memory.current)
    np.savez(output, *memories)


def large(output: str) -> None:
    """A training step with STA and ITA on one 512x512 window a device."""
    devices = jax.local_device_count()
    config = small_config(crop=(512, 512), batch_size=devices, model__hidden=(2,))
    model, optimizer = create_model(config), create_optimizer(config, 1)
    state: TrainState = create_train_state(config, model, optimizer, devices).to_devices()
    step = create_step(config, model, optimizer, phase_two=True)
    rng = np.random.default_rng(0)
    batch = {
        'image': rng.normal(size=(devices, 3, 512, 512)).astype(np.float32),
        'membrane': rng.integers(0, 2, (devices, 3, 512, 512)).astype(np.uint8),
        'valid': np.ones((devices, 3, 512, 512), np.uint8),
        'sample_id': np.arange(devices, dtype=np.int32)[::-1],
        'symmetry': np.arange(devices, dtype=np.int32),
    }
    for _ in range(3):
        state, result = step(state, parallel.shard(batch))
    np.savez(output, np.asarray(result['loss']), state.to_host(devices).memory.current)


if __name__ == '__main__':
    globals()[sys.argv[1]](sys.argv[2])
