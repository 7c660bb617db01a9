"""Networks from windows of sections to membrane logits."""

from typing import Any

import jax
import jax.numpy as jnp

from taclnet_jax.errors import InputError
from taclnet_jax.models.convlstm import ConvLSTM
from taclnet_jax.models.dive import DIVE
from taclnet_jax.models.mosinska import Mosinska
from taclnet_jax.models.network import Network as Network
from taclnet_jax.models.recurrent_unet import RecurrentUNet
from taclnet_jax.models.unet import UNet

MODELS: dict[str, type[Network]] = {
    'convlstm': ConvLSTM,
    'recurrent_unet': RecurrentUNet,
    'unet': UNet,
    'dive': DIVE,
    'mosinska': Mosinska,
}


def create_model(settings: Any, precision: str, axis_name: str | None = None) -> Network:
    """The network that the settings name.

    Args:
        settings: `config.model`.
        precision: of its arithmetic, 'float32' or 'bfloat16'; parameters and logits are float32.
        axis_name: of the devices over which it is trained, to normalise by the batch of all.

    Raises:
        InputError: there is no model of that name.
    """
    if settings.name not in MODELS:
        raise InputError(
            f'Expected config.model.name to be one of {", ".join(MODELS)}; found {settings.name!r}.'
        )
    return MODELS[settings.name].from_settings(settings, jnp.dtype(precision), axis_name)


def iterated_logits(
    network: Network, variables: Any, image: jax.Array
) -> tuple[jax.Array, jax.Array, Any]:
    """What a training step takes the loss of: the logits of each iteration, and their weights.

    The image is of normalised windows, `[batch, slices, height, width]`.

    Returns:
        (logits `[iterations, batch, slices, height, width]`, the last of them the prediction;
        weights of their losses `[iterations]`, which sum to 1: k / Z with k from 1; its statistics
        after this batch).
    """
    logits, statistics = network.apply(
        variables, image, train=True, method='iterations', mutable=['batch_stats']
    )
    weights = jnp.arange(1, len(logits) + 1, dtype=jnp.float32)
    return logits, weights / weights.sum(), statistics
