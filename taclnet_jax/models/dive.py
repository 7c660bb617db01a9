"""DIVE (Fakhry et al. 2016): a deep classifier of single pixels, run densely."""

from collections.abc import Sequence
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from taclnet_jax.models.layers import Conv, pad_to_multiple
from taclnet_jax.models.network import Network


class DIVE(Network):
    """A deep two-dimensional pixel classifier on raw intensities ("Deep models for brain EM ...").

    The classifier sees a patch around a pixel and says whether the pixel is membrane. Each stage
    is two 3x3 convolutions with ReLU and 3x3 max-pooling of stride 2, without padding; four of them
    bring a patch of 91x91 pixels (`reach_px`) down to one, of which a fully connected layer and
    one logit are computed. By default 66,817 parameters.

    It is not run patch by patch but in one pass (Giusti et al. 2013): after pooling with stride 1
    the map is taken apart into its four sublattices of every second row and column, on which the
    dilated convolutions that follow are plain ones. Each pixel gets what the classifier gives for
    its own patch; beyond the section each layer sees zeros (sizes that do not divide by all
    poolings are mirrored up first).

    The paper's table of layers could not be had. The layers here follow what was usual in Caffe,
    its framework, then: small kernels (VGG), overlapping pooling (AlexNet), and a patch like the
    95x95 pixels of the classifier that had won the challenge before (Ciresan et al. 2012). No
    normalisation beyond the input's, no dropout; one logit a pixel instead of two.
    """

    features: Sequence[int] = (16, 24, 32, 48, 96)  # of the stages and the fully connected layer
    dtype: Any = jnp.float32  # of the computation; parameters stay float32

    @classmethod
    def from_settings(cls, settings: Any, dtype: Any, axis_name: str | None) -> Self:
        return cls(tuple(settings.features) or cls.features, dtype)

    @property
    def stride(self) -> int:
        """The sublattices' step."""
        return 2 ** (len(self.features) - 1)

    def reach_px(self, slices: int) -> int:
        """Half of the patch: two convolutions and a pooling a stage, each twice as far apart."""
        return 3 * (self.stride - 1)

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False) -> jax.Array:
        """Logits `[batch, slices, height, width]`, float32, of `image` of the same shape."""
        *stages, connected = self.features
        height, width = image.shape[2:]
        x = image.reshape(-1, height, width, 1).astype(self.dtype)
        x = pad_to_multiple(x, self.stride)
        for features in stages:
            for _ in range(2):
                x = nn.relu(Conv(features, 3, self.dtype)(x))
            x = _to_sublattices(_max_pool(x))
        x = nn.relu(Conv(connected, 1, self.dtype)(x))
        x = Conv(1, 1, self.dtype)(x)
        for _ in stages:
            x = _from_sublattices(x)
        return x[:, :height, :width, 0].reshape(image.shape).astype(jnp.float32)


def _max_pool(x: jax.Array) -> jax.Array:
    """The largest of the 3x3 pixels around each, of maps that are nowhere negative.

    Shifted maps are compared for the same reason as in `layers.max_pool`.
    """
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = jnp.maximum(jnp.maximum(x[:, :-2], x[:, 1:-1]), x[:, 2:])
    return jnp.maximum(jnp.maximum(x[:, :, :-2], x[:, :, 1:-1]), x[:, :, 2:])


def _to_sublattices(x: jax.Array) -> jax.Array:
    """`[n, height, width, c]` to `[4 n, height / 2, width / 2, c]`: even and odd rows, columns."""
    n, height, width, channels = x.shape
    x = x.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(0, 2, 4, 1, 3, 5)
    return x.reshape(4 * n, height // 2, width // 2, channels)


def _from_sublattices(x: jax.Array) -> jax.Array:
    """Undoes `_to_sublattices`."""
    n, height, width, channels = x.shape
    x = x.reshape(n // 4, 2, 2, height, width, channels).transpose(0, 3, 1, 4, 2, 5)
    return x.reshape(n // 4, 2 * height, 2 * width, channels)
