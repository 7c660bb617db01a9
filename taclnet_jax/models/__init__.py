"""Networks from windows of sections to membrane logits."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from taclnet_jax.models.convlstm import ConvLSTM


def create_model(config: Any) -> nn.Module:
    """The network that the configuration names.

    It maps normalised windows `[batch, slices, height, width]` to logits of membrane of the same
    shape, for each section of the window.

    Args:
        config: a ConfigDict with `model` and `precision`.
    """
    return ConvLSTM(
        hidden=tuple(config.model.hidden),
        kernel=config.model.kernel,
        dtype=jnp.dtype(config.precision),
    )
