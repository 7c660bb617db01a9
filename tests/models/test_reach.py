"""How far the networks see, at their default settings: NaN spreads to all that sees it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taclnet_jax.models import MODELS
from taclnet_jax.models.mosinska import Mosinska
from taclnet_jax.models.network import Network
from taclnet_jax.models.recurrent_unet import RecurrentUNet
from taclnet_jax.models.unet import UNet


def farthest_seen(model: Network, slices: int) -> int:
    """The largest distance in x from a pixel of the first section to a logit that sees it."""
    stride = model.stride
    centre = (model.reach_px(slices) // stride + 2) * stride
    # One window for each place in a square of the stride.
    image = np.zeros((stride, slices, stride, 2 * centre), np.float32)
    offsets = np.arange(stride)
    image[offsets, 0, 0, centre + offsets] = np.nan
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(image[:1, ..., :stride]))
    params = jax.tree.map(lambda x: jnp.ones(x.shape), params)
    apply = jax.jit(model.apply)
    place, seen = np.nonzero(np.isnan(apply(params, image)).any((1, 2)))
    assert seen.min() > 0 and seen.max() < 2 * centre - 1
    return np.abs(seen - centre - place).max()


SLICES = {'convlstm': (1, 3, 5), 'recurrent_unet': (3, 5)}  # others see each section alone


@pytest.mark.slow
@pytest.mark.parametrize('name', MODELS)
def test_reach_is_exact(name: str) -> None:
    model = MODELS[name]()
    for slices in SLICES.get(name, (1,)):
        assert farthest_seen(model, slices) == model.reach_px(slices)


@pytest.mark.parametrize(
    'model',
    [
        UNet((2, 2), normalise=True),
        UNet((2,)),
        Mosinska((2, 2, 2), iteration_count=4),
        RecurrentUNet((2, 2, 4)),
    ],
)
def test_reach_of_other_settings(model: Network) -> None:
    assert farthest_seen(model, 3) == model.reach_px(3)


def test_reach_by_hand() -> None:
    reach = {name: model().reach_px(3) for name, model in MODELS.items()}
    # 3 layers of radius 1 and 2 steps from section to section.
    assert reach['convlstm'] == 5
    # 60 pixels of blocks on the way down and up, 32 at the deepest level, 15 within its pixel.
    assert reach['unet'] == 107
    assert reach['dive'] == 45  # of a patch of 91
    assert reach['mosinska'] > 2 * reach['unet']
