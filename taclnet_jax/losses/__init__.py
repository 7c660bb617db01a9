"""Losses of probability maps, for any JAX model."""

from taclnet_jax.losses.attention import ATTENTION_FORMS, attention_loss, straight_through
from taclnet_jax.losses.perceptual import perceptual_distance
from taclnet_jax.losses.pixel import LOSSES, Loss, cross_entropy, cross_entropy_dice
from taclnet_jax.losses.topological import topological_loss

__all__ = [
    'ATTENTION_FORMS',
    'LOSSES',
    'Loss',
    'attention_loss',
    'cross_entropy',
    'cross_entropy_dice',
    'perceptual_distance',
    'straight_through',
    'topological_loss',
]
