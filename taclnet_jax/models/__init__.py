"""Networks from windows of sections to membrane logits."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from taclnet_jax.models.convlstm import ConvLSTM
from taclnet_jax.models.dive import DIVE
from taclnet_jax.models.mosinska import Mosinska, iteration_weights
from taclnet_jax.models.recurrent_unet import RecurrentUNet
from taclnet_jax.models.unet import UNet

MODELS = ('convlstm', 'recurrent_unet', 'unet', 'dive', 'mosinska')


def create_model(config: Any) -> nn.Module:
    """The network that the configuration names.

    It maps normalised windows `[batch, slices, height, width]` to logits of membrane of the same
    shape, for each section of the window.

    Args:
        config: a ConfigDict with `model` and `precision`.

    Raises:
        ValueError: there is no model of that name.
    """
    model, dtype = config.model, jnp.dtype(config.precision)
    if model.name == 'convlstm':
        return ConvLSTM(hidden=tuple(model.hidden), kernel=model.kernel, dtype=dtype)
    # () stands for the model's own default.
    features: dict[str, Any] = {'features': tuple(model.features)} if model.features else {}
    if model.name == 'dive':
        return DIVE(**features, dtype=dtype)
    options = features | {'normalise': model.normalise, 'dtype': dtype}
    if model.name == 'unet':
        return UNet(**options)
    if model.name == 'recurrent_unet':
        return RecurrentUNet(**options)
    if model.name == 'mosinska':
        return Mosinska(iteration_count=model.iterations, **options)
    raise ValueError(f'model.name must be one of {", ".join(MODELS)}, got {model.name!r}.')


def iterated_logits(model: nn.Module, params: Any, image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What a training step takes the loss of: the logits of each iteration, and their weights.

    A model that does not iterate (all but `Mosinska`) has one iteration.

    Args:
        model: of `create_model`.
        params: its parameters.
        image: normalised windows, `[batch, slices, height, width]`.

    Returns:
        (logits `[iterations, batch, slices, height, width]`, the last of them the prediction;
        weights of their losses `[iterations]`, which sum to 1).
    """
    variables = {'params': params}
    if isinstance(model, Mosinska):
        logits: Any = model.apply(variables, image, method='iterations')
    else:
        only: Any = model.apply(variables, image)
        logits = only[None]
    return logits, iteration_weights(len(logits))
