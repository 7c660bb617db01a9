"""ConvLSTM (Shi et al. 2015) over the sections of a window, the poster's backbone."""

from collections.abc import Sequence
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from taclnet_jax.models.convolution import convolve
from taclnet_jax.models.layers import Conv
from taclnet_jax.models.network import Network

State = tuple[jax.Array, jax.Array]


class ConvLSTMCell(nn.Module):
    """One step of a ConvLSTM: input, forget and output gates by convolution instead of product."""

    features: int
    kernel: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, state: State | None, x: jax.Array) -> tuple[State, jax.Array]:
        """Takes (cell, hidden), both `[batch, height, width, features]`, and the input to the next.

        None stands for a state of zeros, and saves their convolution.
        """
        channels = x.shape[-1]
        kernel = self.param(
            'kernel',
            nn.initializers.lecun_normal(),
            (self.kernel, self.kernel, channels + self.features, 4 * self.features),
        ).astype(self.dtype)
        bias = self.param('bias', nn.initializers.zeros, (4 * self.features,)).astype(self.dtype)
        parts = (x,) if state is None else (x, state[1])
        used = sum(part.shape[-1] for part in parts)
        gates = convolve(parts, kernel[:, :, :used]) + bias
        i, g, f, o = jnp.split(gates, 4, axis=-1)
        cell = nn.sigmoid(i) * jnp.tanh(g)
        if state is not None:
            # The forget gate starts open (Jozefowicz et al. 2015), as in flax's own cells.
            cell += nn.sigmoid(f + 1) * state[0]
        hidden = nn.sigmoid(o) * jnp.tanh(cell)
        return (cell, hidden), hidden


class ConvLSTMLayer(nn.Module):
    """A ConvLSTM over sections, its state zero at the first one.

    Sections are arrays of their own, `[batch, height, width, channels]` each, and become
    `[batch, height, width, features]`. The scan is unrolled: inside XLA's while loop a convolution
    runs its slow path on CPUs.
    """

    features: int
    kernel: int = 3
    dtype: Any = jnp.float32
    remat: bool = False  # keeps no more of a section than its input and state for the gradient

    @nn.compact
    def __call__(self, sections: Sequence[jax.Array]) -> list[jax.Array]:
        cell = ConvLSTMCell(self.features, self.kernel, self.dtype)

        def step(cell: ConvLSTMCell, state: State | None, x: jax.Array) -> tuple[State, jax.Array]:
            return cell(state, x)

        if self.remat:
            step = nn.remat(step)
        state, first = step(cell, None, sections[0])
        if len(sections) == 1:
            return [first]
        scan = nn.scan(
            step,
            variable_broadcast='params',
            split_rngs={'params': False},
            unroll=len(sections) - 1,
        )
        _, rest = scan(cell, state, jnp.stack(sections[1:]))
        return [first, *rest]


class ConvLSTM(Network):
    """Membrane probabilities of all sections of a window from stacked ConvLSTM layers.

    The last layer has one channel a section. Only its last hidden state has seen the whole window,
    so all maps are read there: a 1x1 convolution, then one sigmoid a section.
    """

    hidden: Sequence[int] = (16, 8)  # channels of the layers before the last
    kernel: int = 3  # side of the square kernels, odd
    dtype: Any = jnp.float32  # of the computation; parameters stay float32
    remat: bool = False  # of the layers

    @classmethod
    def from_settings(cls, settings: Any, dtype: Any, axis_name: str | None) -> Self:
        return cls(tuple(settings.hidden), settings.kernel, dtype, settings.rematerialise)

    def reach_px(self, slices: int) -> int:
        """A kernel's radius for each layer, and for each section that the state comes through."""
        return self.kernel // 2 * (len(self.hidden) + slices)

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False) -> jax.Array:
        """Logits `[batch, slices, height, width]`, float32, of `image` of the same shape."""
        slices = image.shape[1]
        sections = list(jnp.moveaxis(image[..., None].astype(self.dtype), 1, 0))
        for features in (*self.hidden, slices):
            sections = ConvLSTMLayer(features, self.kernel, self.dtype, self.remat)(sections)
        read = Conv(slices, 1, self.dtype, kernel_init=nn.initializers.lecun_normal())
        logits = read(sections[-1])
        return jnp.moveaxis(logits, -1, 1).astype(jnp.float32)
