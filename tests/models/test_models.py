"""The networks: sizes, what each map sees, shared weights, and that they learn."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from networks import initialise

from taclnet_jax.config.settings import ModelSettings
from taclnet_jax.errors import InputError
from taclnet_jax.models import MODELS, Network, create_model, iterated_logits
from taclnet_jax.models.dive import DIVE
from taclnet_jax.models.mosinska import Mosinska
from taclnet_jax.models.recurrent_unet import RecurrentUNet, RecurrentUNetBody
from taclnet_jax.models.unet import PUBLISHED, UNet, UNetBody

TINY = {'recurrent_unet': (4, 8), 'unet': (4, 8), 'dive': (4, 6, 8), 'mosinska': (4, 8)}
TWO_DIMENSIONAL = ('unet', 'dive', 'mosinska')


def tiny(name: str, precision: str = 'float32', **changes: Any) -> Network:
    iterations = 2 if name == 'mosinska' else 0
    small = {'hidden': (4,), 'features': TINY.get(name, ()), 'iterations': iterations}
    changes = small | changes
    return create_model(ModelSettings(name=name, **changes), precision)


def windows(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize('name', MODELS)
@pytest.mark.parametrize('shape', [(1, 1, 7, 9), (2, 2, 16, 5), (1, 3, 1, 1), (1, 5, 33, 64)])
def test_logits_have_the_shape_of_the_windows(name: str, shape: tuple[int, ...]) -> None:
    model = tiny(name)
    logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros(shape))
    assert logits.shape == shape and logits.dtype == jnp.float32


@pytest.mark.parametrize('name', MODELS)
def test_parameters_do_not_depend_on_the_size_of_the_windows(name: str) -> None:
    model = tiny(name)
    trees = [
        jax.tree.map(
            lambda x: (x.shape, x.dtype),
            jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 3, size, size))),
        )
        for size in (8, 21)
    ]
    assert trees[0] == trees[1]
    assert {
        dtype for _, dtype in jax.tree.leaves(trees[0], is_leaf=lambda x: type(x) is tuple)
    } == {jnp.dtype('float32')}


@pytest.mark.parametrize('cls', [UNet, RecurrentUNet, DIVE, Mosinska])
def test_documentation_tells_the_number_of_parameters(cls: type[nn.Module]) -> None:
    shapes = jax.eval_shape(cls().init, jax.random.key(0), jnp.zeros((1, 3, 16, 16)))
    count = sum(x.size for x in jax.tree.leaves(shapes))
    assert f'{count:,} parameters' in ' '.join((cls.__doc__ or '').split())


def test_published_unet_has_the_published_number_of_parameters() -> None:
    model = UNet(PUBLISHED, normalise=False)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1, 16, 16)))
    # Counted by hand from the paper's figure 1, with one logit instead of two.
    assert sum(x.size for x in jax.tree.leaves(shapes)) == 31_030_593


@pytest.mark.parametrize('name', TWO_DIMENSIONAL)
def test_two_dimensional_networks_see_each_section_alone_with_the_same_weights(name: str) -> None:
    model, image = tiny(name, iterations=1), windows(1, 3, 16, 16)
    params = initialise(model, image)
    apply = jax.jit(model.apply)
    logits: Any = apply(params, image)
    turned: Any = apply(params, image[:, jnp.array([2, 0, 1])])
    np.testing.assert_allclose(turned, logits[:, jnp.array([2, 0, 1])], atol=1e-5)
    other: Any = apply(params, image.at[0, 1, 8, 8].add(5))
    moved = np.abs(other - logits)[0] > 1e-6
    assert moved[1].any() and not moved[[0, 2]].any()


def test_every_map_of_the_recurrent_unet_sees_every_section() -> None:
    model, image = tiny('recurrent_unet'), windows(1, 4, 16, 16)
    params = initialise(model, image)

    apply = jax.jit(model.apply)
    before: Any = apply(params, image)
    for section in range(4):
        after: Any = apply(params, image.at[0, section, 7, 8].add(5))
        assert (np.abs(after - before)[0].max((-2, -1)) > 1e-5).all()


@pytest.mark.parametrize('name', MODELS)
def test_sections_moved_by_the_stride_move_their_logits(name: str) -> None:
    model, image = tiny(name), windows(1, 1, 48, 48)
    stride, reach = model.stride, model.reach_px(1)
    assert reach + stride < 24
    params = initialise(model, image)
    apply = jax.jit(model.apply)
    here: Any = apply(params, image)
    there: Any = apply(params, jnp.roll(image, (stride, stride), axis=(2, 3)))
    inner, moved = slice(reach, 48 - reach - stride), slice(reach + stride, 48 - reach)
    np.testing.assert_allclose(here[..., inner, inner], there[..., moved, moved], atol=1e-5)


def classify_patch(params: Any, patch: jax.Array) -> jax.Array:
    """DIVE as a classifier of one patch, with strides and without padding: `[side, side]` to a
    logit."""

    def convolve(x: jax.Array, name: str) -> jax.Array:
        numbers = ('NHWC', 'HWIO', 'NHWC')
        kernel, bias = params[name]['kernel'], params[name]['bias']
        return (
            lax.conv_general_dilated(x, kernel, (1, 1), 'VALID', dimension_numbers=numbers) + bias
        )

    x = patch[None, :, :, None]
    stages = (len(params) - 2) // 2
    for stage in range(stages):
        x = nn.relu(convolve(x, f'Conv_{2 * stage}'))
        x = nn.relu(convolve(x, f'Conv_{2 * stage + 1}'))
        x = nn.max_pool(x, (3, 3), (2, 2))
    assert x.shape[1:3] == (1, 1)
    x = nn.relu(convolve(x, f'Conv_{2 * stages}'))
    return convolve(x, f'Conv_{2 * stages + 1}')[0, 0, 0, 0]


def test_dense_dive_gives_what_the_patch_classifier_gives() -> None:
    model, side = tiny('dive'), 19
    assert tiny('dive').reach_px(1) == side // 2 and DIVE().reach_px(1) == 91 // 2
    image = windows(1, 1, 29, 34)
    params = initialise(model, image)
    dense: Any = jax.jit(model.apply)(params, image)
    classify = jax.jit(classify_patch)
    for y, x in [(9, 9), (10, 9), (15, 20), (19, 23), (19, 24), (12, 14)]:
        patch = image[0, 0, y - 9 : y + 10, x - 9 : x + 10]
        assert patch.shape == (side, side)
        np.testing.assert_allclose(dense[0, 0, y, x], classify(params['params'], patch), atol=1e-5)


def both(model: nn.Module) -> Callable[..., Any]:
    """The iterations' logits with their weights, and the model's own logits."""
    return jax.jit(
        lambda params, image: (iterated_logits(model, params, image), model.apply(params, image))
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'body'),
    [('mosinska', UNetBody), ('unet', UNetBody), ('recurrent_unet', RecurrentUNetBody)],
)
def test_the_prediction_is_refined_with_the_same_weights(name: str, body: type[UNetBody]) -> None:
    model, image = tiny(name, iterations=2), windows(2, 3, 16, 16)
    params = initialise(model, image)
    (logits, weights, _), last = both(model)(params, image)
    assert logits.shape == (2, 2, 3, 16, 16)
    np.testing.assert_allclose(weights, [1 / 3, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(last, logits[-1], atol=1e-6)

    @jax.jit
    def once(previous: jax.Array) -> Any:
        inputs = jnp.stack([image, previous], axis=-1)
        return body(TINY[name]).apply({'params': params['params']['body']}, inputs)

    np.testing.assert_allclose(logits[0], once(jnp.zeros_like(image)), atol=1e-5)
    np.testing.assert_allclose(logits[1], once(jax.nn.sigmoid(logits[0])), atol=1e-5)
    assert np.abs(logits[1] - logits[0]).max() > 1e-3


@pytest.mark.slow
def test_each_iteration_has_statistics_of_its_own() -> None:
    model, image = tiny('unet', iterations=2, normalise=True), windows(2, 3, 16, 16)
    variables = jax.jit(model.init)(jax.random.key(0), image)
    momentum, steps = 0.98, 300

    @jax.jit
    def step(variables: Any) -> tuple[jax.Array, Any]:
        logits, _, statistics = iterated_logits(model, variables, image)
        return logits, variables | statistics

    for _ in range(steps):
        logits, variables = step(variables)
    # Running statistics that have come to those of the one batch normalise as it does itself.
    used = model.apply(variables, image, method='iterations')
    assert momentum**steps < 0.003
    np.testing.assert_allclose(used, logits, atol=0.05)
    assert np.abs(logits[1] - logits[0]).max() > 0.5


def test_models_that_do_not_iterate_have_one_iteration() -> None:
    model, image = tiny('unet'), windows(1, 2, 8, 8)
    params = initialise(model, image)
    (logits, weights, _), last = both(model)(params, image)
    np.testing.assert_allclose(logits, last[None], atol=1e-6)
    np.testing.assert_array_equal(weights, [1])


@pytest.mark.slow
@pytest.mark.parametrize('name', ['recurrent_unet', 'dive'])
def test_bfloat16_computes_close_to_float32(name: str) -> None:
    image = windows(1, 3, 16, 16)
    params = initialise(tiny(name), image)
    exact: Any = jax.jit(tiny(name).apply)(params, image)
    rounded: Any = jax.jit(tiny(name, precision='bfloat16').apply)(params, image)
    assert rounded.dtype == jnp.float32
    assert np.abs(rounded - exact).mean() < 0.05 * np.abs(exact).mean() + 0.01
    assert np.abs(rounded - exact).max() > 0


@pytest.mark.slow
def test_windows_of_a_batch_do_not_meet() -> None:
    model, image = tiny('recurrent_unet'), windows(2, 2, 16, 16)
    params = initialise(model, image)
    together: Any = jax.jit(model.apply)(params, image)
    alone: Any = jax.jit(jax.vmap(lambda x: model.apply(params, x[None])[0]))(image)
    np.testing.assert_allclose(together, alone, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['recurrent_unet', 'unet', 'dive', 'mosinska'])
def test_learns_one_crop_with_all_its_parameters(name: str) -> None:
    y, x = np.mgrid[:32, :32]
    membrane = jnp.asarray(((x + y) % 11 < 3) | (np.abs(x - y) < 2), jnp.float32)
    membrane = jnp.broadcast_to(membrane, (1, 2, 32, 32))
    image = 0.7 * (0.5 - membrane) + 0.3 * windows(1, 2, 32, 32)
    model = tiny(name)
    params = initialise(model, image)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params: Any, state: Any) -> tuple[Any, Any, jax.Array, Any]:
        def loss_of(params: Any) -> jax.Array:
            logits, weights, _ = iterated_logits(model, params, image)
            losses = optax.sigmoid_binary_cross_entropy(logits, membrane).mean((1, 2, 3, 4))
            return jnp.sum(weights * losses)

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, loss, gradients

    state, losses = optimizer.init(params), []
    for _ in range(40):
        params, state, loss, gradients = step(params, state)
        losses.append(float(loss))
        if len(losses) == 1:
            still = [
                jax.tree_util.keystr(path)
                for path, x in jax.tree_util.tree_leaves_with_path(gradients)
                if not np.abs(x).max() > 0
            ]
            assert not still
    assert losses[-1] < 0.6 * losses[0]


def test_unknown_model_is_refused() -> None:
    message = "config.model.name to be one of convlstm, recurrent_unet.*; found 'resnet'"
    with pytest.raises(InputError, match=message):
        create_model(SimpleNamespace(name='resnet'), 'float32')


def test_one_channel_at_the_deepest_level_is_refused() -> None:
    with pytest.raises(InputError, match='two channels or more at the deepest level'):
        create_model(ModelSettings(name='recurrent_unet', features=(8, 1)), 'float32')
