"""Batch normalisation against flax's, whose gradient is derived step by step."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taclnet_jax.models.normalisation import BatchNormReLU


class Expected(nn.Module):
    """What `BatchNormReLU` is to be."""

    train: bool
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        norm = nn.BatchNorm(
            not self.train, axis_name=self.axis_name, momentum=0.98, dtype=self.dtype, name='norm'
        )
        return nn.relu(norm(x))


def sample(*shape: int, seed: int = 0) -> jax.Array:
    """Channels of other means and deviations."""
    x = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(x * (1 + np.arange(shape[-1])) - 2, jnp.float32)


def variables(channels: int) -> dict[str, Any]:
    """Of a layer that was trained for a while."""
    scale, bias, mean, var = np.random.default_rng(7).normal(size=(4, channels))
    return {
        'params': {'scale': 1 + scale, 'bias': bias},
        'batch_stats': {'mean': mean, 'var': var**2},
    }


def wrapped(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: {'norm': values} for name, values in tree.items()}


def test_begins_as_that_of_flax() -> None:
    x, key = sample(2, 4, 3, 5), jax.random.key(0)
    ours, theirs = BatchNormReLU(True).init(key, x), Expected(True).init(key, x)
    jax.tree.map(np.testing.assert_array_equal, wrapped(ours), theirs)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_by_running_means(dtype: Any) -> None:
    x, tree = sample(3, 4, 5, 6), variables(6)
    got: Any = BatchNormReLU(False, dtype=dtype).apply(tree, x)
    expected: Any = Expected(False, dtype=dtype).apply(wrapped(tree), x)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(*(np.float32(y) for y in (got, expected)), rtol=2e-2, atol=1e-4)
    assert dtype != jnp.float32 or np.allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_by_the_batch_in_training_and_by_running_means_otherwise() -> None:
    x = 3 + 2 * jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 5, 7)), jnp.float32)
    train, use = BatchNormReLU(True), BatchNormReLU(False)
    tree = train.init(jax.random.key(0), x)
    y, updated = train.apply(tree, x, mutable=['batch_stats'])
    mean, deviation = np.mean(x, (0, 1, 2)), np.std(x, (0, 1, 2))
    np.testing.assert_allclose(y, np.maximum((x - mean) / deviation, 0), atol=1e-4)
    statistics = updated['batch_stats']
    np.testing.assert_allclose(statistics['mean'], 0.02 * mean, rtol=1e-5)
    used: Any = use.apply({**tree, **updated}, x)
    expected = (x - 0.02 * mean) / np.sqrt(0.98 + 0.02 * deviation**2)
    np.testing.assert_allclose(used, np.maximum(expected, 0), rtol=1e-4, atol=1e-6)


def value_and_gradients(model: nn.Module, tree: Any, x: jax.Array, upstream: jax.Array) -> Any:
    def loss(params: Any, x: jax.Array) -> Any:
        y, updated = model.apply({**tree, 'params': params}, x, mutable=['batch_stats'])
        return jnp.sum(upstream * y.astype(jnp.float32)), (y, updated['batch_stats'])

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(tree['params'], x)


def test_training_is_that_of_flax() -> None:
    x, upstream, tree = sample(4, 6, 5, 7), sample(4, 6, 5, 7, seed=1), variables(7)
    (_, (y, stats)), (d_params, dx) = value_and_gradients(BatchNormReLU(True), tree, x, upstream)
    (_, (y0, stats0)), (d_params0, dx0) = value_and_gradients(
        Expected(True), wrapped(tree), x, upstream
    )
    for got, expected in (
        (y, y0),
        (stats, stats0['norm']),
        (d_params, d_params0['norm']),
        (dx, dx0),
    ):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-4), got, expected
        )


def test_gradient_of_a_channel_without_variance_is_finite() -> None:
    x, tree = jnp.ones((2, 3, 3, 2)), variables(2)
    _, gradients = value_and_gradients(BatchNormReLU(True), tree, x, jnp.ones_like(x))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_devices_normalise_by_the_batch_of_all() -> None:
    x, upstream = (sample(6, 4, 3, 5, seed=seed) for seed in (0, 1))
    tree = variables(5)
    (_, (y, stats)), (d_params, dx) = value_and_gradients(BatchNormReLU(True), tree, x, upstream)

    def on_each(x: jax.Array, upstream: jax.Array) -> Any:
        return value_and_gradients(BatchNormReLU(True, 'devices'), tree, x, upstream)

    split = (a.reshape(3, 2, *a.shape[1:]) for a in (x, upstream))
    (_, (ys, stats_each)), (d_each, dxs) = jax.vmap(on_each, axis_name='devices')(*split)
    np.testing.assert_allclose(ys.reshape(y.shape), y, atol=1e-5)
    np.testing.assert_allclose(dxs.reshape(dx.shape), dx, rtol=1e-4, atol=1e-4)
    for name, values in stats_each.items():
        np.testing.assert_allclose(values, jnp.stack([stats[name]] * 3), rtol=1e-5)
    for name, values in d_each.items():
        np.testing.assert_allclose(values.sum(0), d_params[name], rtol=1e-4, atol=1e-4)
