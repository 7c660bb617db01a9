"""The network of Mosinska et al. (2018): a U-Net that refines its own prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from taclnet_jax.models.unet import UNetBody


class Mosinska(nn.Module):
    """A U-Net applied several times with the same weights ("Beyond the pixel-wise loss ...").

    Its two inputs are a section and the probabilities it predicted the time before, zeros at first
    (the paper's y_{k+1} = f(x, y_k)). Each section of the window goes through it alone.
    1,942,433 parameters by default: those of `UNet` and the second input's.

    Training needs all predictions, `iterations`, weighted by `iteration_weights`; the gradient
    flows back through all of them. The paper adds the distance of VGG19 features to the
    cross-entropy, see `taclnet_jax.losses.perceptual_distance`. The U-Net is the one of this
    package, see `UNet` for what it does differently.

    Attributes:
        features: channels of the levels, from full resolution down.
        iteration_count: how often the U-Net is applied (the paper's K, 3 there).
        normalise: see `UNet`.
        dtype: of the computation; parameters stay float32.
    """

    features: Sequence[int] = (16, 32, 64, 128, 256)
    iteration_count: int = 3
    normalise: bool = True
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.body = UNetBody(self.features, self.normalise, self.dtype)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Last logits `[batch, slices, height, width]`, float32, of `image` of the same shape."""
        return self.iterations(image)[-1]

    def iterations(self, image: jax.Array) -> jax.Array:
        """The logits of every iteration, `[iterations, batch, slices, height, width]`, float32."""
        sections = image.reshape(-1, *image.shape[2:])
        prob = jnp.zeros(sections.shape, jnp.float32)
        logits = []
        for _ in range(self.iteration_count):
            logits.append(self.body(jnp.stack([sections, prob], axis=-1)))
            prob = nn.sigmoid(logits[-1])
        return jnp.stack(logits).reshape(self.iteration_count, *image.shape)


def iteration_weights(iterations: int) -> jax.Array:
    """The weights of the losses of successive iterations, k / Z with k from 1, which sum to 1."""
    weights = jnp.arange(1, iterations + 1, dtype=jnp.float32)
    return weights / weights.sum()
