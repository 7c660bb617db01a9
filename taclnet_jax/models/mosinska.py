"""The network of Mosinska et al. (2018): a U-Net that refines its own prediction."""

from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from taclnet_jax.models.unet import UNet, UNetBody, unet_reach_px


class Mosinska(UNet):
    """A U-Net applied several times with the same weights ("Beyond the pixel-wise loss ...").

    Its two inputs are a section and the probabilities it predicted the time before, zeros at first
    (the paper's y_{k+1} = f(x, y_k)). Each section of the window goes through it alone.
    1,940,961 parameters by default: those of `UNet` and the second input's.

    Training needs all predictions, `iterations`; the gradient flows back through all of them. The
    paper adds the distance of VGG19 features to the cross-entropy, see
    `taclnet_jax.losses.perceptual_distance`. The U-Net is the one of this package, see `UNet` for
    what it does differently.

    Attributes:
        features, normalise, dtype, axis_name: see `UNet`.
        iteration_count: how often the U-Net is applied (the paper's K, 3 there).
    """

    iteration_count: int = 3

    @classmethod
    def from_settings(cls, settings: Any, dtype: Any, axis_name: str | None) -> Self:
        return (
            super()
            .from_settings(settings, dtype, axis_name)
            .clone(iteration_count=settings.iterations)
        )

    def reach_px(self, slices: int) -> int:
        return unet_reach_px(len(self.features) - 1, iterations=self.iteration_count)

    def __call__(self, image: jax.Array, train: bool = False) -> jax.Array:
        """Last logits `[batch, slices, height, width]`, float32, of `image` of the same shape."""
        return self.iterations(image, train)[-1]

    @nn.compact
    def iterations(self, image: jax.Array, train: bool = False) -> jax.Array:
        """The logits of every iteration, `[iterations, batch, slices, height, width]`, float32."""
        body = UNetBody(self.features, self.norm(train), self.dtype, name='body')
        sections = image.reshape(-1, *image.shape[2:])
        prob = jnp.zeros(sections.shape, jnp.float32)
        logits = []
        for _ in range(self.iteration_count):
            logits.append(body(jnp.stack([sections, prob], axis=-1)))
            prob = nn.sigmoid(logits[-1])
        return jnp.stack(logits).reshape(self.iteration_count, *image.shape)
