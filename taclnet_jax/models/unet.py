"""U-Net (Ronneberger et al. 2015), on each section of a window alone."""

from collections.abc import Sequence
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from taclnet_jax.models.layers import (
    Block,
    Convolution,
    Norm,
    UpConvolution,
    batch_norm,
    max_pool,
    pad_to_multiple,
)
from taclnet_jax.models.network import Network

PUBLISHED = (64, 128, 256, 512, 1024)
"""Channels of the published U-Net's levels: 31.0 million parameters."""


class Contraction(nn.Module):
    """The levels on the way down: a `Block` each, pooling after it.

    Attributes:
        features: channels of the levels, from full resolution down.
        norm: see `Block`.
        dtype: of the computation.
    """

    features: Sequence[int]
    norm: Norm | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        """`[n, height, width, channels]` to that after the last pooling, and each level's maps."""
        levels = []
        for features in self.features:
            levels.append(Block(features, self.norm, self.dtype)(x))
            x = max_pool(levels[-1])
        return x, levels


class Expansion(nn.Module):
    """The levels on the way up, each of which sees those of `Contraction` too.

    Attributes:
        features: channels of the levels, from full resolution down.
        norm: see `Block`.
        dtype: of the computation.
    """

    features: Sequence[int]
    norm: Norm | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, levels: list[jax.Array]) -> jax.Array:
        """Logits `[n, height, width, 1]`, float32."""
        for features, level in zip(self.features[::-1], levels[::-1], strict=True):
            x = UpConvolution(features, self.dtype)(x)
            x = Block(features, self.norm, self.dtype)(jnp.concatenate([level, x], axis=-1))
        return Convolution(1, (1, 1), dtype=self.dtype)(x).astype(jnp.float32)


class UNetBody(nn.Module):
    """The U-Net of images with any number of channels, height and width; see `UNet`."""

    features: Sequence[int]
    norm: Norm | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[n, height, width, channels]` to logits `[n, height, width]`, float32."""
        height, width = x.shape[1:3]
        *features, deepest = self.features
        x = pad_to_multiple(x.astype(self.dtype), 2 ** len(features))
        x, levels = Contraction(features, self.norm, self.dtype)(x)
        x = Block(deepest, self.norm, self.dtype)(x)
        logits = Expansion(features, self.norm, self.dtype)(x, levels)
        return logits[:, :height, :width, 0]


class UNet(Network):
    """U-Net: two 3x3 convolutions a level, 2x2 pooling and up-convolution, skip connections.

    Each section of the window goes through it alone, with the same weights. By default
    it has 1,940,817 parameters, a quarter of the published channels on as many levels; with
    `PUBLISHED` features 31.0 million.

    Deviations from the paper, for all systems to be trained by one protocol: same-size
    convolutions of the whole crop (the paper's shrink it, after mirroring the image around it; here
    the image is mirrored only to a multiple of the pooling), one logit a pixel instead of two, no
    dropout, no weight map in the loss. Normalisation is not in the paper either, and left out by
    default: in short runs validation scores are better without (docs/findings.md).

    Attributes:
        features: channels of the levels, from full resolution down.
        normalise: batch normalisation after each 3x3 convolution.
        dtype: of the computation; parameters stay float32.
        axis_name: of the devices that share a batch in training.
    """

    features: Sequence[int] = (16, 32, 64, 128, 256)
    normalise: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @classmethod
    def from_settings(cls, settings: Any, dtype: Any, axis_name: str | None) -> Self:
        features = tuple(settings.features) or cls.features
        return cls(features, settings.normalise, dtype, axis_name)

    @property
    def stride(self) -> int:
        """The deepest level's pixels."""
        return 2 ** (len(self.features) - 1)

    def reach_px(self, slices: int) -> int:
        return unet_reach_px(len(self.features) - 1)

    def norm(self, train: bool) -> Norm | None:
        """What `Block` takes."""
        return batch_norm(train, self.axis_name, self.dtype) if self.normalise else None

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False) -> jax.Array:
        """Logits `[batch, slices, height, width]`, float32, of `image` of the same shape."""
        sections = image.reshape(-1, *image.shape[2:], 1)
        body = UNetBody(self.features, self.norm(train), self.dtype)
        return body(sections).reshape(image.shape)


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
