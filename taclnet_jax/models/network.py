"""What training and inference ask of a network."""

from typing import Any, Self

import flax.linen as nn
import jax


class Network(nn.Module):
    """From normalised windows `[batch, slices, height, width]` to logits of membrane, likewise.

    A new one says in `__call__` what it computes, in `reach_px` how far it sees, and has a line in
    `taclnet_jax.models.MODELS`. It takes any height and width. Beside parameters it may have
    running statistics (`batch_stats`) of what it normalises in training; outside of training they
    stay as they are, so that it does the same to a tile of a section as to the whole.
    """

    @classmethod
    def from_settings(cls, settings: Any, dtype: Any, axis_name: str | None) -> Self:
        """The network of the settings `config.model`, which computes in `dtype`.

        In training it normalises by the batch of all devices of the axis, if there is one.
        """
        raise NotImplementedError

    @property
    def stride(self) -> int:
        """Pixels by which a section may move for its logits to move along, and nothing else.

        Sections are mirrored up to a multiple of it.
        """
        return 1

    def reach_px(self, slices: int) -> int:
        """How many rows or columns away a pixel of a window can still influence a logit."""
        raise NotImplementedError

    def iterations(self, image: jax.Array, train: bool = False) -> jax.Array:
        """All logits that training takes a loss of, `[iterations, *image.shape]`, the last last."""
        return self(image, train)[None]
