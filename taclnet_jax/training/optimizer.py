"""Optimizers and learning rates, over both phases."""

from collections.abc import Callable

import optax

from taclnet_jax.config.settings import OptimizerSettings, PhaseOneSettings, TrainingSettings


def _rmsprop(rate: optax.Schedule, settings: OptimizerSettings) -> optax.GradientTransformation:
    """As published."""
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay),
        optax.rmsprop(rate, decay=settings.decay, eps_in_sqrt=False),
    )


def _adamw(rate: optax.Schedule, settings: OptimizerSettings) -> optax.GradientTransformation:
    return optax.adamw(rate, weight_decay=settings.weight_decay)


OPTIMIZERS: dict[
    str, Callable[[optax.Schedule, OptimizerSettings], optax.GradientTransformation]
] = {'rmsprop': _rmsprop, 'adamw': _adamw}


def _constant(settings: PhaseOneSettings, steps_per_epoch: int) -> optax.Schedule:
    return optax.constant_schedule(settings.learning_rate)


def _halving(settings: PhaseOneSettings, steps_per_epoch: int) -> optax.Schedule:
    steps = settings.halve_every * steps_per_epoch
    return optax.exponential_decay(settings.learning_rate, steps, 0.5, staircase=True)


def _cosine(settings: PhaseOneSettings, steps_per_epoch: int) -> optax.Schedule:
    steps = max(settings.epochs * steps_per_epoch, 1)
    return optax.cosine_decay_schedule(settings.learning_rate, steps)


SCHEDULES: dict[str, Callable[[PhaseOneSettings, int], optax.Schedule]] = {
    'constant': _constant,
    'halving': _halving,
    'cosine': _cosine,
}
"""Of phase one's learning rate."""


def create_optimizer(
    settings: TrainingSettings, steps_per_epoch: int
) -> optax.GradientTransformation:
    """The optimizer with the learning rate of both phases."""
    rate = create_learning_rate(settings, steps_per_epoch)
    return OPTIMIZERS[settings.optimizer.name](rate, settings.optimizer)


def create_learning_rate(settings: TrainingSettings, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate as a function of the step, over both phases."""
    one, two = settings.phase_one, settings.phase_two
    return optax.join_schedules(
        [SCHEDULES[one.schedule](one, steps_per_epoch), optax.constant_schedule(two.learning_rate)],
        [one.epochs * steps_per_epoch],
    )
