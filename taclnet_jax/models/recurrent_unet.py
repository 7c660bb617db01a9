"""A U-Net whose deepest level is a ConvLSTM over the sections of a window."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from taclnet_jax.models.convlstm import ConvLSTMLayer
from taclnet_jax.models.layers import Block, pad_to_multiple
from taclnet_jax.models.unet import Contraction, Expansion, UNet, unet_reach_px


class BidirectionalConvLSTM(nn.Module):
    """Two ConvLSTMs over axis 1, one in each direction, with half of the features each.

    `[batch, slices, height, width, channels]` becomes `[..., features]`, and each slice has seen
    all others.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        half = self.features // 2
        down = ConvLSTMLayer(half, dtype=self.dtype)(x)
        up = ConvLSTMLayer(self.features - half, dtype=self.dtype)(x[:, ::-1])[:, ::-1]
        return jnp.concatenate([down, up], axis=-1)


class RecurrentUNet(UNet):
    """A stronger backbone for topological attention than the poster's ConvLSTM.

    Sections are some ten pixels thick, so membranes move by pixels from one to the next: what
    neighbours can tell of a pixel is not at its place but around it, and of a coarser kind (which
    cell, is it still one). So the levels of full to quarter resolution see each section alone, and
    at the deepest, one eighth, sections meet: a ConvLSTM in each direction, added to the U-Net's
    own map. Both directions, because every section's map is put out, and each is to see its
    neighbours on both sides. (The poster's ConvLSTM has one direction and reads all maps from the
    last hidden state; a U-Net's skip connections keep each section's own detail, so its map is
    read at its own place.) Added, so that it corrects a U-Net instead of having to become one
    first.

    888,593 parameters by default.

    Attributes: see `UNet`.
    """

    features: Sequence[int] = (16, 32, 64, 96)

    def reach_px(self, slices: int) -> int:
        """The ConvLSTM adds a pixel of the deepest level for each section."""
        return unet_reach_px(len(self.features) - 1, 2 + slices)

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False) -> jax.Array:
        """Logits `[batch, slices, height, width]`, float32, of `image` of the same shape."""
        batch, slices, height, width = image.shape
        norm = self.norm(train)
        *features, deepest = self.features
        x = image.reshape(-1, height, width, 1).astype(self.dtype)
        x = pad_to_multiple(x, self.stride)
        x, levels = Contraction(features, norm, self.dtype)(x)
        x = Block(deepest, norm, self.dtype)(x)
        windows = x.reshape(batch, slices, *x.shape[1:])
        x += BidirectionalConvLSTM(deepest, self.dtype)(windows).reshape(x.shape)
        logits = Expansion(features, norm, self.dtype)(x, levels)
        return logits[:, :height, :width, 0].reshape(image.shape)
