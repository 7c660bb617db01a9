"""STA and ITA against the dense softmax in float64, and what they promise to their users."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from scipy import ndimage

from taclnet_jax.attention.dense import blockwise_attention, dense_attention
from taclnet_jax.attention.linear import linear_attention, topological_attention
from taclnet_jax.attention.sta import iterative_attention, sta_attention
from taclnet_jax.symmetry import inverse, symmetry
from taclnet_jax.topology import BACKENDS

DATA = os.environ.get('TACLNET_DATA_DIR')
needs_data = pytest.mark.skipif(not DATA, reason='TACLNET_DATA_DIR is not set')


def window(shape: tuple[int, ...] = (3, 24, 28), seed: int = 0) -> np.ndarray:
    """Smooth probabilities without ties, float32 `[..., slices, H, W]`."""
    field = np.random.default_rng(seed).normal(size=shape)
    field = ndimage.gaussian_filter(field, (0,) * (len(shape) - 2) + (1.2, 1.2))
    ranks = np.argsort(np.argsort(field, axis=None)).reshape(shape)
    return ((ranks + 0.5) / ranks.size).astype(np.float32)


def dense(query: Any, keys: Any, values: Any) -> np.ndarray:
    """The definition in float64, for C query maps `[C, H, W]`."""
    q, k = (np.asarray(x, np.float64).reshape(len(keys), -1) for x in (query, keys))
    scores = np.exp(q.T @ k)
    o = scores @ np.asarray(values, np.float64).ravel() / scores.sum(1)
    return o.reshape(values.shape)


def refined(prob: np.ndarray, maps: np.ndarray, target: int, alpha: float) -> np.ndarray:
    """The poster's equations after CP, in float64."""
    prob = np.asarray(prob, np.float64)
    o = dense(np.repeat(maps[target : target + 1], len(maps), 0), maps, prob[target])
    o = (o - o.min()) / (o.max() - o.min())
    return np.clip(alpha * o + prob[target], 0, 1)


@needs_data
@pytest.mark.parametrize('slices', (1, 3, 5))
def test_vectors(slices: int) -> None:
    data = np.load(Path(DATA or '') / 'vectors' / f'attention_{slices}s.npz')
    target, maps = int(data['target']), data['critical_maps']
    o = topological_attention(maps[target], maps, data['prob'][target])
    np.testing.assert_allclose(o, data['attention'], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('slices', (1, 3, 5))
def test_linear_time_attention_is_nearer_to_float64_than_dense_float32(slices: int) -> None:
    prob = window((slices, 40, 44))
    maps = np.asarray(sta_attention(prob).critical_maps)
    args = maps[slices // 2], maps, prob[slices // 2]
    exact = dense(np.repeat(args[0][None], slices, 0), *args[1:])
    error = np.abs(topological_attention(*args) - exact).max()
    assert error < 2e-7
    assert error <= np.abs(dense_attention(*args) - exact).max()
    np.testing.assert_allclose(blockwise_attention(*args, block_size=100), exact, atol=2e-6)


@pytest.mark.parametrize('slices', (1, 3, 5))
def test_sta_is_the_posters_equations(slices: int) -> None:
    prob = window((slices, 30, 33))
    for alpha in (0.3, 1.0):
        result = sta_attention(prob, alpha=alpha)
        maps = np.asarray(result.critical_maps, np.float64)
        assert maps[slices // 2].max() == 1
        expected = refined(prob, maps, slices // 2, alpha)
        np.testing.assert_allclose(result.refined, expected, atol=1e-5)
    assert result.attention.min() == 0 and 1 - 1e-6 < result.attention.max() <= 1


def test_target_can_be_any_slice() -> None:
    prob = window()
    for target in (0, 2, -1):
        result = sta_attention(prob, target=target)
        expected = refined(prob, np.asarray(result.critical_maps), target % 3, 1.0)
        np.testing.assert_allclose(result.refined, expected, atol=1e-5)


def test_faint_attention_keeps_its_digits() -> None:
    # One critical point in a large section moves o by a millionth of its value.
    size = 700
    maps = np.zeros((1, size, size), np.float32)
    maps[0, 300, 300:303] = 0.6, 1.0, 0.6
    values = np.random.default_rng(0).random((size, size)).astype(np.float32)
    cp = jnp.asarray(maps[0])
    _, deviation = linear_attention(cp, cp, jnp.asarray(values), 1.0)
    b, v = maps[0].astype(np.float64).ravel(), values.astype(np.float64).ravel()
    for a in (0.6, 1.0):
        weights = np.exp(np.float32(a) * b) - 1
        expected = weights @ (v - v.mean()) / (v.size + weights.sum())
        found = deviation[300, 300 if a == 0.6 else 301] - deviation[0, 0]
        np.testing.assert_allclose(found, expected, rtol=2e-4)


@pytest.mark.parametrize('slices', (1, 3))
def test_gradient_is_that_of_the_dense_form(slices: int) -> None:
    prob = window((slices, 12, 13), seed=slices)
    target = slices // 2
    weights = np.random.default_rng(1).random(prob.shape[1:])
    maps = np.asarray(sta_attention(prob).critical_maps, np.float64)
    assert maps[target].any()

    gradient = jax.grad(lambda p: jnp.sum(weights * sta_attention(p, alpha=0.2).refined))(prob)
    assert not np.asarray(gradient)[[i for i in range(slices) if i != target]].any()

    def loss(p: np.ndarray) -> float:
        return float(np.sum(weights * refined(p, maps, target, 0.2)))

    differences = np.zeros(prob.shape[1:])
    for pixel in np.ndindex(differences.shape):
        high, low = (prob.astype(np.float64) for _ in range(2))
        high[(target, *pixel)] += 1e-6
        low[(target, *pixel)] -= 1e-6
        differences[pixel] = (loss(high) - loss(low)) / 2e-6
    # The lowest o is a plateau whose pixels move together, so that there is no kink.
    np.testing.assert_allclose(np.asarray(gradient)[target], differences, rtol=2e-3, atol=2e-3)


def test_derivatives_to_query_keys_and_values_are_those_of_the_dense_form() -> None:
    rng = np.random.default_rng(0)
    query, values = (jnp.asarray(rng.random((9, 11)), jnp.float32) for _ in range(2))
    keys = jnp.asarray(rng.random((3, 9, 11)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(9, 11)), jnp.float32)

    def gradients(attend: Any) -> Any:
        gradient = jax.grad(lambda *x: jnp.sum(weights * attend(*x)), argnums=(0, 1, 2))
        return jax.jit(gradient)(query, keys, values)

    expected = gradients(dense_attention)
    for attend in (topological_attention, lambda *x: blockwise_attention(*x, block_size=16)):
        for found, wanted in zip(gradients(attend), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)

    def slope(attend: Any) -> jax.Array:
        return jax.jit(
            jax.grad(
                lambda q: jnp.sum(jax.grad(lambda x: jnp.sum(attend(x, keys, values) ** 2))(q))
            )
        )(query)

    np.testing.assert_allclose(slope(topological_attention), slope(dense_attention), atol=1e-5)


def test_general_queries_have_dense_and_blockwise_forms() -> None:
    rng = np.random.default_rng(0)
    query, keys = rng.normal(size=(2, 4, 13, 9)).astype(np.float32) * 3
    values = rng.random((13, 9)).astype(np.float32)
    exact = dense(query, keys, values)
    np.testing.assert_allclose(dense_attention(query, keys, values), exact, atol=1e-5)
    for size in (7, 117, 500):
        o = blockwise_attention(query, keys, values, block_size=size)
        np.testing.assert_allclose(o, exact, atol=1e-5)
    batch = [np.stack([x, x[..., ::-1]]) for x in (query, keys, values)]
    o = blockwise_attention(*batch, block_size=7)
    np.testing.assert_allclose(o, [exact, exact[:, ::-1]], atol=1e-5)


def test_scores_beyond_the_bound_are_refused() -> None:
    rng = np.random.default_rng(0)
    query, values = rng.random((2, 8, 9)).astype(np.float32)
    keys = rng.random((1, 8, 9)).astype(np.float32)
    assert np.isnan(topological_attention(4 * query, keys, values)).all()
    assert np.isnan(topological_attention(-query, keys, values)).all()
    query, keys = query / query.max(), keys / keys.max()
    assert np.isnan(topological_attention(1.001 * query, keys, values)).all()
    for scale in (4, 30, 60):
        o = topological_attention(scale * query, keys, values, max_score=scale)
        np.testing.assert_allclose(o, dense((scale * query)[None], keys, values), rtol=2e-6)
    o = topological_attention(0 * query, keys, values, max_score=0)
    np.testing.assert_allclose(o, np.full_like(values, values.mean()), rtol=1e-6)
    for score in (100, -1):
        with pytest.raises(ValueError, match=f'got {score}'):
            topological_attention(query, keys, values, max_score=score)


def test_memory_grows_linearly() -> None:
    def bytes_a_pixel(size: int) -> float:
        image = jax.ShapeDtypeStruct((size, size), jnp.float32)
        keys = jax.ShapeDtypeStruct((3, size, size), jnp.float32)
        gradient = jax.grad(lambda v, q, k: jnp.sum(topological_attention(q, k, v) ** 2))
        compiled = jax.jit(gradient).lower(image, image, keys).compile()
        return compiled.memory_analysis().temp_size_in_bytes / size**2

    small, large = bytes_a_pixel(256), bytes_a_pixel(2048)
    assert large <= 1.1 * small < 60


@pytest.mark.parametrize('backend', BACKENDS)
def test_no_critical_points_means_no_attention(backend: str) -> None:
    prob = np.stack([window((1, 3, 20, 20))[0], np.full((3, 20, 20), 0.7, np.float32)])
    prob = np.concatenate([prob, prob[:1]])
    prob[2, 1] = 0.3
    result = sta_attention(prob, backend=backend)
    assert result.attention[0].max() > 0.999
    np.testing.assert_array_equal(result.attention[1:], 0)
    np.testing.assert_array_equal(result.refined[1:], prob[1:, 1])
    gradient = jax.grad(lambda p: jnp.sum(sta_attention(p, backend=backend).refined))(prob)
    np.testing.assert_array_equal(gradient[1:, 1], 1)


@pytest.mark.parametrize('k', range(8))
def test_attention_commutes_with_the_symmetries_of_the_square(k: int) -> None:
    prob = window((3, 26, 26))
    plain = sta_attention(prob)
    turned = sta_attention(symmetry(prob, k))
    for one, other in zip(plain, turned, strict=True):
        np.testing.assert_allclose(symmetry(other, inverse(k)), one, atol=1e-5)


def test_history_is_mixed_in_where_a_sample_has_one() -> None:
    prob = window((2, 3, 20, 22))
    history = np.random.default_rng(0).random((2, 20, 22)).astype(np.float32)
    beta = np.array([0.0, 0.6], np.float32)[:, None, None]
    new = sta_attention(prob).attention
    result = sta_attention(prob, history=history, beta=beta)
    np.testing.assert_array_equal(result.attention[0], new[0])
    np.testing.assert_allclose(result.attention[1], 0.6 * history[1] + 0.4 * new[1], rtol=1e-6)
    np.testing.assert_allclose(
        result.refined, np.clip(np.asarray(result.attention) + prob[:, 1], 0, 1), rtol=1e-6
    )
    gradient = jax.grad(lambda h: jnp.sum(sta_attention(prob, history=h).refined))(history)
    assert not gradient.any()


def test_iterative_attention_is_the_recurrence() -> None:
    rng = np.random.default_rng(0)
    epochs = rng.random((6, 5, 7)).astype(np.float32)
    memory = epochs[0]
    for new in epochs[1:]:
        memory = iterative_attention(memory, new, 0.3)
    weights = np.array([0.3**5] + [0.7 * 0.3 ** (5 - t) for t in range(1, 6)])
    np.testing.assert_allclose(memory, np.tensordot(weights, epochs, 1), rtol=1e-5)
    assert not jax.grad(lambda m: jnp.sum(iterative_attention(m, epochs[0], 0.3)))(memory).any()


@pytest.mark.parametrize('backend', BACKENDS)
def test_nan_stays_where_it_was(backend: str) -> None:
    prob = window((3, 3, 20, 20))
    prob[0, 1, 4:6, 7] = np.nan
    prob[1, 0, 3, 3] = np.nan
    history = np.full((3, 20, 20), 0.5, np.float32)
    result = sta_attention(prob, backend=backend, history=history, alpha=0.1)
    np.testing.assert_array_equal(np.isnan(result.refined), np.isnan(prob[:, 1]))
    assert not np.isnan(result.attention).any()
    np.testing.assert_array_equal(np.asarray(result.attention)[np.isnan(prob[:, 1])], 0)
    # Another slice's NaN takes only that slice's critical points away.
    assert not result.critical_maps[1, 0].any() and result.critical_maps[1, 1].any()
    alone = sta_attention(prob[2], backend=backend, history=history[2], alpha=0.1)
    np.testing.assert_allclose(result.refined[2], alone.refined, atol=1e-6)


@pytest.mark.parametrize('dtype', (jnp.bfloat16, jnp.float16))
def test_half_precision_goes_in_and_out(dtype: Any) -> None:
    prob = jnp.asarray(window(), dtype)
    result = sta_attention(prob)
    assert {x.dtype for x in result} == {jnp.dtype(dtype)}
    exact = sta_attention(prob.astype(jnp.float32))
    for one, other in zip(result, exact, strict=True):
        np.testing.assert_allclose(one.astype(np.float32), other, atol=0.02)
    maps = exact.critical_maps.astype(dtype)
    o = topological_attention(maps[1], maps, prob[1])
    assert o.dtype == dtype
    expected = dense(
        np.repeat(np.asarray(maps[1:2], float), 3, 0),
        np.asarray(maps, float),
        np.asarray(prob[1], float),
    )
    np.testing.assert_allclose(o.astype(np.float32), expected, rtol=0.005)


@pytest.mark.parametrize('shape', [(1, 1, 1), (3, 1, 9), (3, 9, 1), (0, 3, 5, 5), (2, 2, 1, 6, 5)])
def test_shapes(shape: tuple[int, ...]) -> None:
    prob = np.random.default_rng(0).random(shape, np.float32)
    result = sta_attention(prob)
    assert result.refined.shape == result.attention.shape == shape[:-3] + shape[-2:]
    assert result.critical_maps.shape == shape


def test_a_history_of_another_shape_is_refused() -> None:
    prob = np.full((3, 8, 8), 0.5, np.float32)
    with pytest.raises(ValueError, match=r'history must have .* \(8, 8\), got \(3, 8, 8\)'):
        sta_attention(prob, history=prob)


@pytest.mark.slow
@pytest.mark.parametrize('backend', BACKENDS)
def test_transformations_change_nothing(backend: str) -> None:
    prob = jnp.asarray(window((4, 3, 16, 18)))
    weights = jnp.asarray(np.random.default_rng(0).random((4, 16, 18)), jnp.float32)

    def step(p: jax.Array, w: jax.Array) -> Any:
        def loss(p: jax.Array) -> Any:
            result = sta_attention(p, backend=backend, alpha=0.4)
            return jnp.sum(w * result.refined), result

        gradient, result = jax.grad(loss, has_aux=True)(p)
        return (gradient, *result)

    expected = jax.jit(step)(prob, weights)
    devices = jax.local_devices()[: 2 if jax.local_device_count() > 1 else 1]
    n = len(devices)
    mesh = Mesh(np.array(devices), ('d',))
    spec = PartitionSpec('d')
    split = [x.reshape(n, 4 // n, *x.shape[1:]) for x in (prob, weights)]
    sharded = jax.shard_map(step, mesh=mesh, in_specs=(spec, spec), out_specs=spec)
    scanned = jax.jit(lambda *x: jax.lax.scan(lambda c, y: (c, step(*y)), 0, x)[1])
    results = [jax.jit(jax.vmap(step))(prob, weights), jax.jit(sharded)(prob, weights)]
    if backend == 'gudhi':
        mapped = jax.pmap(step, devices=devices)(*split)
        results += [scanned(prob, weights), [x.reshape(4, *x.shape[2:]) for x in mapped]]
    for result in results:
        for one, other in zip(result, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    ('prob', 'options', 'message'),
    [
        (np.zeros((8, 8), np.float32), {}, r'\(8, 8\)'),
        (np.zeros((3, 8, 8), np.float32), {'target': 3}, '3'),
        (np.zeros((3, 8, 8), np.int32), {}, 'int32'),
        (np.zeros((3, 8, 8), np.float32), {'border': 'none'}, 'none'),
        (np.zeros((3, 8, 8), np.float32), {'backend': 'ripser'}, 'ripser'),
    ],
)
def test_wrong_arguments_are_named(prob: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sta_attention(prob, **options)


def test_shapes_that_do_not_fit_are_named() -> None:
    for attend in (topological_attention, dense_attention, blockwise_attention):
        with pytest.raises(ValueError, match=r'\(4, 5\).*\(2, 4, 6\)'):
            attend(np.zeros((4, 5)), np.zeros((2, 4, 6)), np.zeros((4, 5)))


def test_more_slices_than_the_series_holds_are_refused() -> None:
    with pytest.raises(ValueError, match='at most 64 slices, got 65'):
        sta_attention(jnp.zeros((65, 8, 8)))
