"""U-Net (Ronneberger et al. 2015), on each section of a window alone."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from taclnet_jax.models.layers import Block, Conv, Norm, UpConvolution, max_pool, pad_to_multiple
from taclnet_jax.models.network import Network
from taclnet_jax.models.normalisation import BatchNormReLU

PUBLISHED = (64, 128, 256, 512, 1024)
"""Channels of the published U-Net's levels: 31.0 million parameters."""


class Contraction(nn.Module):
    """The levels on the way down, from full resolution: a `Block` each, pooling after it."""

    features: Sequence[int]  # channels of each
    norm: Norm | None = None
    dtype: Any = jnp.float32
    remat: bool = False  # of the blocks

    @nn.compact
    def __call__(self, x: jax.Array, iteration: int) -> tuple[jax.Array, list[jax.Array]]:
        """`[n, height, width, channels]` to that after the last pooling, and each level's maps."""
        levels = []
        for features in self.features:
            block = Block(features, self.norm, self.dtype, self.remat)
            levels.append(block(x, iteration=iteration))
            x = max_pool(levels[-1])
        return x, levels


class Expansion(nn.Module):
    """The levels on the way up, each of which sees that of `Contraction` too."""

    features: Sequence[int]  # channels of each, from full resolution down
    norm: Norm | None = None
    dtype: Any = jnp.float32
    remat: bool = False  # of the blocks

    @nn.compact
    def __call__(self, x: jax.Array, levels: list[jax.Array], iteration: int) -> jax.Array:
        """Logits `[n, height, width, 1]`, float32."""
        for features, level in zip(self.features[::-1], levels[::-1], strict=True):
            x = UpConvolution(features, self.dtype)(x)
            block = Block(features, self.norm, self.dtype, self.remat)
            x = block(level, x, iteration=iteration)
        return Conv(1, 1, self.dtype)(x).astype(jnp.float32)


class UNetBody(nn.Module):
    """The U-Net of sections with any number of channels, height and width; see `UNet`."""

    features: Sequence[int]
    norm: Norm | None = None
    dtype: Any = jnp.float32
    remat: bool = False  # of the blocks

    @nn.compact
    def __call__(self, windows: jax.Array, iteration: int = 0) -> jax.Array:
        """`[batch, slices, height, width, channels]` to logits without the channels, float32."""
        height, width, channels = windows.shape[2:]
        *features, deepest = self.features
        x = windows.reshape(-1, height, width, channels).astype(self.dtype)
        x = pad_to_multiple(x, 2 ** len(features))
        x, levels = Contraction(features, self.norm, self.dtype, self.remat)(x, iteration)
        x = Block(deepest, self.norm, self.dtype, self.remat)(x, iteration=iteration)
        x = self.across(x, windows.shape[1])
        expansion = Expansion(features, self.norm, self.dtype, self.remat)
        logits = expansion(x, levels, iteration)
        return logits[:, :height, :width, 0].reshape(windows.shape[:-1])

    def across(self, x: jax.Array, slices: int) -> jax.Array:
        """What a window's sections tell each other at the deepest level: nothing."""
        return x


class UNet(Network):
    """U-Net: two 3x3 convolutions a level, 2x2 pooling and up-convolution, skip connections.

    Each section of the window goes through it alone, with the same weights. By default
    it has 1,940,817 parameters, a quarter of the published channels on as many levels; with
    `PUBLISHED` features 31.0 million.

    Deviations from the paper, for all systems to be trained by one protocol: same-size
    convolutions of the whole crop (the paper's shrink it, after mirroring the image around it; here
    the image is mirrored only to a multiple of the pooling), one logit a pixel instead of two, no
    dropout, no weight map in the loss. Normalisation is not in the paper either.

    It may be applied several times, with the same weights, and then sees what it predicted the time
    before as a second channel, zeros at first.
    """

    features: Sequence[int] = (16, 32, 64, 128, 256)  # of the levels, from full resolution down
    normalise: bool = False  # batch normalisation after each 3x3 convolution
    dtype: Any = jnp.float32  # of the computation; parameters stay float32
    axis_name: str | None = None  # of the devices that share a batch in training
    iteration_count: int = 1  # how often it is applied
    remat: bool = False  # of the blocks

    body: ClassVar[type[UNetBody]] = UNetBody

    @classmethod
    def from_settings(cls, settings: Any, dtype: Any, axis_name: str | None) -> Self:
        return cls(
            tuple(settings.features) or cls.features,
            settings.normalise,
            dtype,
            axis_name,
            settings.iterations or cls.iteration_count,
            settings.rematerialise,
        )

    @property
    def stride(self) -> int:
        """The deepest level's pixels."""
        return 2 ** (len(self.features) - 1)

    def reach_px(self, slices: int) -> int:
        return unet_reach_px(len(self.features) - 1, iterations=self.iteration_count)

    def __call__(self, image: jax.Array, train: bool = False) -> jax.Array:
        """Logits `[batch, slices, height, width]`, float32, of `image` of the same shape."""
        return self.iterations(image, train)[-1]

    @nn.compact
    def iterations(self, image: jax.Array, train: bool = False) -> jax.Array:
        norm = None
        if self.normalise:
            norm = partial(BatchNormReLU, train, self.axis_name, self.dtype)
        body = self.body(self.features, norm, self.dtype, self.remat, name='body')
        if self.iteration_count == 1:
            return body(image[..., None])[None]
        logits, prob = [], jnp.zeros_like(image)
        for iteration in range(self.iteration_count):
            logits.append(body(jnp.stack([image, prob], axis=-1), iteration))
            prob = nn.sigmoid(logits[-1])
        return jnp.stack(logits)


def unet_reach_px(poolings: int, deepest: int = 2, iterations: int = 1) -> int:
    """How far a U-Net sees, which depends on where in the deepest level's pixels one looks from.

    Args:
        poolings: from full resolution down.
        deepest: radius of what the deepest level does, in its pixels.
        iterations: how often the U-Net sees its own output.
    """

    def first_seen(x: int) -> int:
        for _ in range(poolings):
            x = (x - 2) // 2  # a block, of what was doubled
        x -= deepest
        for _ in range(poolings):
            x = 2 * x - 2  # of two that were pooled the first, a block's
        return x

    reach = 0
    for start in range(2**poolings):
        x = start
        for _ in range(iterations):
            x = first_seen(x)
        reach = max(reach, start - x)
    return reach
