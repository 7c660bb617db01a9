"""The perceptual loss (Mosinska et al. 2018): the distance of two pictures by VGG19's features.

It needs the first three blocks of VGG19 (Simonyan & Zisserman 2015) only, 2.3 million parameters.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Params = dict[str, dict[str, Any]]

# Channels of the convolutions of each block; a pooling between blocks.
_BLOCKS = ((64, 64), (128, 128), (256, 256, 256, 256))

# Of ImageNet's red, green and blue, which torchvision's weights expect to be taken off.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def perceptual_distance(
    params: Params,
    prob: jax.Array,
    truth: jax.Array,
    layers: Sequence[str] = ('relu1_2', 'relu2_2', 'relu3_4'),
) -> jax.Array:
    """How differently VGG19 sees prediction and truth (Mosinska et al. 2018, their L_top).

    It is the mean squared difference of a layer's features, summed over the layers.

    Args:
        params: of `load_vgg19`.
        prob: probabilities in [0, 1], `[..., height, width]`, at least 4x4.
        truth: 1 where there is membrane, 0 elsewhere, the same shape; a constant to the gradient.
            Where nothing is known, give both the same value.
        layers: whose features are compared, `relu1_1` to `relu3_4`.
    """
    predicted = vgg19_features(params, prob.astype(jnp.float32), layers)
    true = vgg19_features(params, lax.stop_gradient(truth.astype(jnp.float32)), layers)
    squares = [jnp.square(a - b).mean() for a, b in zip(predicted, true, strict=True)]
    return sum(squares, jnp.zeros(()))


def vgg19_features(params: Params, image: jax.Array, layers: Sequence[str]) -> list[jax.Array]:
    """The features `[n, height, width, channels]` of grey images, each layer's.

    Args:
        params, layers: of `perceptual_distance`.
        image: `[..., height, width]` in [0, 1]; n is the product of its other axes.

    Raises:
        ValueError: there is no such layer.
    """
    names = {name.replace('conv', 'relu'): name for name, _, _, _ in convolutions()}
    if unknown := set(layers) - set(names):
        raise ValueError(f'layers must be of {", ".join(names)}, got {sorted(unknown)}.')
    grey = image.reshape(-1, *image.shape[-2:], 1)
    x = (grey - jnp.array(_MEAN)) / jnp.array(_DEVIATION)
    features: dict[str, jax.Array] = {}
    for layer, name in names.items():
        if set(layers) <= set(features):
            break
        if layer.endswith('_1') and features:
            # Odd sizes lose their last row or column, as in VGG19.
            x = _max_pool(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2])
        kernel, bias = params[name]['kernel'], params[name]['bias']
        x = lax.conv_general_dilated(
            x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )
        features[layer] = x = jax.nn.relu(x + bias)
    return [features[layer] for layer in layers]


def _max_pool(x: jax.Array) -> jax.Array:
    # Slices: their gradient is 10 times faster on CPUs than a window's.
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


def convolutions() -> Iterable[tuple[str, int, int, int]]:
    """Name, place in torchvision's `features`, input and output channels of each convolution."""
    index, inputs = 0, 3
    for block, channels in enumerate(_BLOCKS, 1):
        for place, features in enumerate(channels, 1):
            yield f'conv{block}_{place}', index, inputs, features
            index, inputs = index + 2, features  # a ReLU has a place too
        index += 1  # and a pooling


def random_params() -> Params:
    rng = np.random.default_rng(19)
    params: Params = {}
    for name, _, inputs, features in convolutions():
        kernel = rng.normal(0, math.sqrt(2 / (9 * inputs)), (3, 3, inputs, features))
        params[name] = {'kernel': np.float32(kernel), 'bias': np.zeros(features, np.float32)}
    return params
