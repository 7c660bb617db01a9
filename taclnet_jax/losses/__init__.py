"""Losses of probability maps, for any JAX model."""

from taclnet_jax.losses.attention import ATTENTION_FORMS as ATTENTION_FORMS
from taclnet_jax.losses.attention import attention_loss as attention_loss
from taclnet_jax.losses.attention import straight_through as straight_through
from taclnet_jax.losses.perceptual import perceptual_distance as perceptual_distance
from taclnet_jax.losses.pixel import LOSSES as LOSSES
from taclnet_jax.losses.pixel import Loss as Loss
from taclnet_jax.losses.pixel import cross_entropy as cross_entropy
from taclnet_jax.losses.pixel import cross_entropy_dice as cross_entropy_dice
from taclnet_jax.losses.pixel import labelled_mean as labelled_mean
from taclnet_jax.losses.pixel import membrane_probability as membrane_probability
from taclnet_jax.losses.topological import topological_loss as topological_loss
