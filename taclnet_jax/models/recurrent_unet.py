"""A U-Net whose deepest level is a ConvLSTM over the sections of a window."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from taclnet_jax.errors import InputError
from taclnet_jax.models.convlstm import ConvLSTMLayer
from taclnet_jax.models.unet import UNet, UNetBody, unet_reach_px


class BidirectionalConvLSTM(nn.Module):
    """Two ConvLSTMs over axis 1, one in each direction, with half of the features each.

    `[batch, slices, height, width, channels]` becomes `[..., features]`, and each slice has seen
    all others.
    """

    features: int
    dtype: Any = jnp.float32
    remat: bool = False  # of the ConvLSTMs

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        half = self.features // 2
        layer = partial(ConvLSTMLayer, dtype=self.dtype, remat=self.remat)
        sections = list(jnp.moveaxis(x, 1, 0))
        down = layer(half)(sections)
        up = layer(self.features - half)(sections[::-1])[::-1]
        met = [jnp.concatenate(both, axis=-1) for both in zip(down, up, strict=True)]
        return jnp.stack(met, axis=1)


class RecurrentUNetBody(UNetBody):
    """The network of windows with any number of channels; see `RecurrentUNet`."""

    def across(self, x: jax.Array, slices: int) -> jax.Array:
        windows = x.reshape(-1, slices, *x.shape[1:])
        layer = BidirectionalConvLSTM(x.shape[-1], self.dtype, self.remat)
        return x + layer(windows).reshape(x.shape)


class RecurrentUNet(UNet):
    """A stronger backbone for topological attention than the poster's ConvLSTM.

    Sections are some ten pixels thick, so membranes move by pixels from one to the next: what
    neighbours can tell of a pixel is not at its place but around it, and of a coarser kind. So the
    levels of full to quarter resolution see each section alone, and at the deepest, one eighth,
    sections meet: a ConvLSTM in each direction, for each map is to see the neighbours on both
    sides, added to the U-Net's own map, which it corrects instead of having to become one first.

    888,593 parameters by default. See `UNet` for the attributes.
    """

    features: Sequence[int] = (16, 32, 64, 96)

    body: ClassVar[type[UNetBody]] = RecurrentUNetBody

    @classmethod
    def from_settings(cls, settings: Any, dtype: Any, axis_name: str | None) -> Self:
        if settings.features and settings.features[-1] < 2:
            raise InputError(
                'Expected two channels or more at the deepest level of recurrent_unet, one for '
                f'each direction; found config.model.features={settings.features}.'
            )
        return super().from_settings(settings, dtype, axis_name)

    def reach_px(self, slices: int) -> int:
        """The ConvLSTM adds a pixel of the deepest level for each section."""
        return unet_reach_px(len(self.features) - 1, 2 + slices, self.iteration_count)
