"""What tests run in processes with several CPU devices: python device_workers.py FOLDER NAME..."""

from __future__ import annotations

import sys
from functools import cache

import jax
import numpy as np
import pytest
from commands import small_settings
from poisoned import POISONS, batch, problem

from taclnet_jax.data.normalisation import normalised
from taclnet_jax.data.volume import Volume
from taclnet_jax.inference import create_inference
from taclnet_jax.training import parallel
from taclnet_jax.training.setup import Training, prepare
from taclnet_jax.training.state import TrainState
from taclnet_jax.training.step import Step

ITA_EPOCHS = 3


@cache
def ita_problem() -> tuple[Training, TrainState]:
    """The small run with parameters that never change, and its first state."""
    settings = small_settings(phase_two__learning_rate=0.0, phase_one__learning_rate=0.0)
    training = prepare(settings)
    # At the start all probabilities are about 0.5: scale the logits so that there are loops.
    variables = jax.tree.map(lambda x: x * 3, training.new.variables)
    return training, training.new.replace(variables=variables)


@cache
def ita_step(over_hosts: bool = False) -> Step:
    """The real training step of `ita_problem`, or that for the devices of several processes."""
    with pytest.MonkeyPatch.context() as patch:
        if over_hosts:
            patch.setattr(parallel, 'map_step', parallel.map_over_hosts)
        return ita_problem()[0].create_step(phase_two=True)


def ita() -> list[np.ndarray]:
    """The ITA memory after each of a few epochs of the real training step."""
    training, state = ita_problem()
    loader, step, state = training.loader, ita_step(), state.to_devices()
    memories = []
    for epoch in range(ITA_EPOCHS):
        state = state.replace(memory=state.memory.begin_epoch())
        for i in range(loader.steps_per_epoch):
            state, _ = step(state, parallel.shard(loader.batch(epoch, i)))
        memories.append(state.to_host(len(loader.samples)).memory.current)
    return memories


def large() -> list[np.ndarray]:
    """Loss and memory after steps with STA and ITA on one 512x512 window a device."""
    shape, side = (12, 512, 512), 512
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, shape, np.uint8)
    volume = Volume('noise', image, rng.random(shape) < 0.5, None, (40.0, 4.0, 4.0))
    devices = jax.local_device_count()
    settings = small_settings(
        crop=(side, side), batch_size=devices, model__hidden=(), slices=1, validation_sections=3
    )
    training = prepare(settings, volume)
    loader = training.loader
    step = training.create_step(phase_two=True)
    state = training.new.to_devices()
    for i in range(loader.steps_per_epoch):
        state, result = step(state, parallel.shard(loader.batch(0, i)))
    return [np.asarray(result['loss']), state.to_host(len(loader.samples)).memory.current]


def skipped() -> list[np.ndarray]:
    """The devices' states before and after steps that are poisoned on the last device."""
    devices, arrays = jax.local_device_count(), []
    step, new = problem()
    state, _ = step(new.to_devices(), parallel.shard(batch(devices=devices)))
    for poison in POISONS:
        before = jax.tree.map(np.asarray, state)  # it is donated
        state, _ = step(state, parallel.shard(batch(poison, sample=1, devices=devices)))
        after = jax.tree.map(np.asarray, state)
        arrays += jax.tree.leaves((before.replace(step=after.step, losses=after.losses), after))
    return [*arrays, after.losses.skipped]


def mapped() -> list[np.ndarray]:
    """Loss, and the state after an epoch, of either way to map a step over the devices."""
    found = []
    for over_hosts in (False, True):
        training, state = ita_problem()
        step, state = ita_step(over_hosts), state.to_devices()
        for i in range(training.loader.steps_per_epoch):
            state, output = step(state, parallel.shard(training.loader.batch(0, i)))
        found += [np.asarray(output['loss']), *jax.tree.leaves(jax.tree.map(np.asarray, state))]
    return found


def losses() -> list[np.ndarray]:
    """Of a few steps whose windows have labels in different numbers, on any number of devices."""
    found = []
    training = prepare(
        small_settings(
            loss='cross_entropy_dice',
            model__name='unet',
            model__features=(4, 6),
            model__normalise=True,
        )
    )
    for phase_two in (False, True):
        step, state = training.create_step(phase_two), training.new.to_devices()
        for i in range(training.loader.steps_per_epoch):
            if phase_two:  # critical points jump where updates differ by their rounding
                state = training.new.to_devices()
            batch = training.loader.batch(0, i)
            batch['valid'][:3, :, i:] = 0
            state, output = step(state, parallel.shard(batch))
            found.append(np.asarray(output['loss'][0]))
    return found


def predicted() -> list[np.ndarray]:
    """P of a section by four views, and on how many devices the network is then."""
    settings = small_settings(model__name='unet', model__features=(4, 6))
    training = prepare(settings)
    infer = create_inference(training.network, views=4, **settings.inference_options)
    image = normalised(training.volume.image)
    prob = infer.prob(training.new.variables, image, 2, range(5))
    kept = [x for x in jax.live_arrays() if x.shape == (3, 3, 4, 4)]
    return [prob, np.int32(len({device for x in kept for device in x.devices()}))]


WORK = {
    'predicted': predicted,
    'mapped': mapped,
    'losses': losses,
    'ita': ita,
    'large': large,
    'skipped': skipped,
}

if __name__ == '__main__':
    folder, *names = sys.argv[1:]
    for name in names:
        np.savez(f'{folder}/{name}.npz', *WORK[name]())
