"""The poster's attention: spatial topological attention (STA) and iterative attention (ITA).

Everything here takes probability maps of any model and has no parameters.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from taclnet_jax.topology import critical_map

# Remainder of the exponential series that float32 does not notice.
_SERIES_ERROR = 2.0**-27
# Beyond this the series takes more terms than it saves.
_MAX_SCORE = 64.0


class STAOutput(NamedTuple):
    """What `sta_attention` returns.

    Attributes:
        refined: the target slice's probability after attention, in [0, 1], `[..., H, W]`.
        attention: the normalised attention o in [0, 1], after ITA, `[..., H, W]`.
        critical_maps: CP of every slice, in [0, 1], `[..., slices, H, W]`.
    """

    refined: jax.Array
    attention: jax.Array
    critical_maps: jax.Array


def sta_attention(
    prob: Any,
    *,
    target: int | None = None,
    alpha: float = 1.0,
    sigma: float = 1.0,
    min_persistence: float = 0.1,
    border: str = 'membrane',
    backend: str = 'gudhi',
    history: Any | None = None,
    beta: Any = 0.5,
) -> STAOutput:
    """Refines a slice's probability by attention to the critical points of its window.

    Args:
        prob: probabilities of membrane `[..., slices, H, W]` in [0, 1], from any model.
        target: index of the slice to refine; the middle one by default.
        alpha: weight of the attention in the refined probability.
        sigma: width of the critical maps' Gaussian in pixels.
        min_persistence: lowest persistence of a critical point.
        border: 'membrane' or 'open', see `persistence_pairs`.
        backend: 'gudhi' or 'xla', see `persistence_pairs`.
        history: the attention of the epoch before, `[..., H, W]`, or None. A constant to the
            gradient.
        beta: weight of the history, a number or an array that broadcasts to `[..., 1, 1]`; 0 where
            a sample has no history.

    Returns:
        `STAOutput` in `prob`'s dtype. Its gradient flows through the target slice's probability;
        critical maps are constants. A window whose target has no critical points gets an attention
        of 0. NaN in a slice: it has no critical points, attention is 0 at its NaN pixels, and NaN
        stays where it was in `refined`.

    Raises:
        ValueError: a shape, dtype or option is wrong.
        RuntimeError: the gudhi callback could hang (see `check_callbacks_can_run`).

    Example:
        A membrane around a cell, in three sections, weakest at (3, 5): there it gains most.

        >>> import jax.numpy as jnp
        >>> prob = jnp.full((8, 8), 0.125).at[1:6, 1:6].set(0.875).at[2:5, 2:5].set(0.25)
        >>> prob = prob.at[3, 5].set(0.5)
        >>> refined, attention, critical_maps = sta_attention(jnp.stack([prob] * 3), alpha=0.5)
        >>> refined.shape, attention.shape, critical_maps.shape
        ((8, 8), (8, 8), (3, 8, 8))
        >>> divmod(int(attention.argmax()), 8), float(refined[3, 5])
        ((3, 5), 1.0)
    """
    prob = jnp.asarray(prob)
    if prob.ndim < 3:
        raise ValueError(
            f'prob must have the shape [..., slices, height, width], got {prob.shape}.'
        )
    slices = prob.shape[-3]
    target = slices // 2 if target is None else target
    if not -slices <= target < slices:
        raise ValueError(f'target must be one of {slices} slices, got {target}.')

    critical_maps = critical_map(
        prob, sigma=sigma, min_persistence=min_persistence, border=border, backend=backend
    )
    p = prob[..., target, :, :].astype(jnp.float32)
    # A slice with NaN has no critical points, its attention is constant whatever its values are.
    values = jnp.where(jnp.isnan(p), 0, p)
    # The normalisation removes the mean of o, which would only cost digits.
    query = critical_maps[..., target, :, :]
    _, o = _linear_attention(query, jnp.sum(critical_maps, -3, jnp.float32), values, slices)
    o = _min_max(o)
    if history is not None:
        o = iterative_attention(history, o, beta)
    o = jnp.where(jnp.isnan(p), 0, o)
    refined = jnp.clip(alpha * o + p, 0, 1)
    return STAOutput(refined.astype(prob.dtype), o.astype(prob.dtype), critical_maps)


def iterative_attention(memory: Any, attention: Any, beta: Any) -> jax.Array:
    """Mixes attention with that of the epoch before: o_t = beta * o_{t-1} + (1 - beta) * o_t.

    The poster's iterative topological attention (ITA), one step of it.

    Args:
        memory: o_{t-1}, `[..., H, W]`, a constant to the gradient.
        attention: o_t before mixing, `[..., H, W]`.
        beta: weight of the memory in [0, 1], a number or an array that broadcasts, say
            `[..., 1, 1]` with 0 for samples that have no memory yet.

    Returns:
        o_t, `[..., H, W]`, in `attention`'s dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> iterative_attention(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 0.5]]), 0.25).tolist()
        [[0.25, 0.375]]
    """
    attention = jnp.asarray(attention)
    memory = jax.lax.stop_gradient(jnp.asarray(memory))
    return (beta * memory + (1 - beta) * attention).astype(attention.dtype)


def topological_attention(
    query: Any, keys: Any, values: Any, *, max_score: float | None = None
) -> jax.Array:
    """Attention of one repeated query map, in time and memory linear in the number of pixels.

    `o_n = sum_m SM[n, m] values_m`, `SM[n, m] = softmax over m of sum_c query_n keys_cm`: the
    poster's STA before its normalisation, for C queries that are the same map. Then a score is a
    product of two numbers a_n b_m, with a the query and b the sum of the keys, so that o depends on
    the pixel through a_n alone. The power series of exp splits both sums of the softmax into
    moments of b and polynomials in a. For a, b >= 0 all its terms are positive and nothing cancels:
    the result is nearer to float64 than the dense softmax in float32 is.

    Args:
        query: `[..., H, W]`, not negative; critical maps are in [0, 1].
        keys: `[..., C, H, W]`, not negative in sum.
        values: `[..., H, W]`.
        max_score: upper bound of a_n b_m, which decides the number of terms; C by default, which
            holds for maps in [0, 1]. At most 64: above, use `blockwise_attention`.

    Returns:
        o, `[..., H, W]`, in `values`' dtype, computed in float32. NaN, rather than something wrong,
        where a query or sum of keys is negative or a score exceeds `max_score`.

    Raises:
        ValueError: shapes that do not fit, or `max_score` out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> cp = jnp.zeros((2, 4, 4)).at[:, 1, 2].set(1)
        >>> prob = jnp.linspace(0, 1, 16).reshape(4, 4)
        >>> o = topological_attention(cp[0], cp, prob)
        >>> bool(jnp.allclose(o, dense_attention(cp[0], cp, prob), atol=1e-6))
        True
    """
    query, keys, values = jnp.asarray(query), jnp.asarray(keys), jnp.asarray(values)
    if keys.ndim < 3 or query.shape[-2:] != keys.shape[-2:] or values.shape[-2:] != keys.shape[-2:]:
        raise ValueError(
            'Expected query [..., H, W], keys [..., C, H, W] and values [..., H, W], '
            f'got {query.shape}, {keys.shape} and {values.shape}.'
        )
    max_score = float(keys.shape[-3] if max_score is None else max_score)
    if not 0 <= max_score <= _MAX_SCORE:
        raise ValueError(
            f'max_score must be in [0, {_MAX_SCORE:g}], got {max_score}: '
            'blockwise_attention takes any score.'
        )
    a, b = query.astype(jnp.float32), jnp.sum(keys, axis=-3, dtype=jnp.float32)
    lowest = jnp.minimum(jnp.min(a, axis=(-2, -1)), jnp.min(b, axis=(-2, -1)))
    highest_b = jnp.max(b, axis=(-2, -1))
    # Rounding may lift a sum of keys by some units in the last place.
    valid = (lowest >= 0) & (jnp.max(a, axis=(-2, -1)) * highest_b <= max_score * (1 + 1e-5))
    # Shared out like this, neither the powers of a nor the moments of b leave float32's range.
    scale = jnp.where(highest_b > 0, max_score / jnp.where(highest_b > 0, highest_b, 1), 1)
    scale = jax.lax.stop_gradient(jnp.where(scale > 0, scale, 1))[..., None, None]
    mean, deviation = _linear_attention(a / scale, b * scale, values, max_score)
    o = jnp.where(valid[..., None, None], mean + deviation, jnp.nan)
    return o.astype(values.dtype)


def dense_attention(query: Any, keys: Any, values: Any) -> jax.Array:
    """The softmax attention as it is written, with all N x N scores: the oracle for small images.

    Args:
        query: C maps `[..., C, H, W]` with any values, or one map `[..., H, W]` that is repeated.
        keys: `[..., C, H, W]`.
        values: `[..., H, W]`.

    Returns:
        o, `[..., H, W]`, computed in the arguments' dtype, float32 or wider.

    Example:
        >>> import jax.numpy as jnp
        >>> cp = jnp.zeros((1, 1, 3))  # all pixels look alike, so each takes the mean
        >>> dense_attention(cp, cp, jnp.array([[0.0, 0.25, 0.5]])).tolist()
        [[0.25, 0.25, 0.25]]
    """
    q, k, v = _flatten(query, keys, values)
    scores = jnp.einsum('...cn,...cm->...nm', q, k, precision='highest')
    o = jnp.einsum('...nm,...m->...n', jax.nn.softmax(scores, axis=-1), v, precision='highest')
    return o.reshape(*o.shape[:-1], *jnp.shape(values)[-2:])


def blockwise_attention(query: Any, keys: Any, values: Any, *, block_size: int = 512) -> jax.Array:
    """The softmax attention for any queries, in linear memory: N^2 time, N x block_size numbers.

    Args:
        query: C maps `[..., C, H, W]` with any values, or one map `[..., H, W]` that is repeated.
        keys: `[..., C, H, W]`.
        values: `[..., H, W]`.
        block_size: pixels that are compared with as many others at a time.

    Returns:
        o, `[..., H, W]`, computed in the arguments' dtype, float32 or wider. The gradient takes
        linear memory too: it computes the scores again.

    Example:
        >>> import jax.numpy as jnp
        >>> cp = jnp.zeros((1, 1, 3))
        >>> blockwise_attention(cp, cp, jnp.array([[0.0, 0.25, 0.5]]), block_size=2).tolist()
        [[0.25, 0.25, 0.25]]
    """
    q, k, v = _flatten(query, keys, values)
    size = v.shape[-1]
    block_size = min(block_size, size)
    queries, keys_, values_ = (_blocks(x, block_size) for x in (q, k, v[..., None, :]))
    # Padded positions take no part in the softmax.
    hidden = _blocks(jnp.arange(size) < 0, block_size, fill=True)

    @jax.checkpoint
    def of_block(q: jax.Array) -> jax.Array:
        @jax.checkpoint
        def add_block(carry: Any, block: Any) -> tuple[Any, None]:
            highest, numerator, denominator = carry
            k, v, hide = block
            scores = jnp.einsum('...cn,...cm->...nm', q, k, precision='highest')
            scores = jnp.where(hide, -jnp.inf, scores)
            new = jnp.maximum(highest, jax.lax.stop_gradient(jnp.max(scores, axis=-1)))
            weights = jnp.exp(scores - new[..., None])
            shrink = jnp.exp(highest - new)
            numerator = numerator * shrink + jnp.sum(weights * v, axis=-1)
            return (new, numerator, denominator * shrink + jnp.sum(weights, axis=-1)), None

        zero = jnp.zeros(jnp.broadcast_shapes(q.shape[:-2], v.shape[:-1]) + (block_size,), v.dtype)
        start = (zero - jnp.inf, zero, zero)
        (_, numerator, denominator), _ = jax.lax.scan(add_block, start, (keys_, values_, hidden))
        return numerator / denominator

    o = jnp.moveaxis(jax.lax.map(of_block, queries), 0, -2)
    o = o.reshape(*o.shape[:-2], -1)[..., :size]
    return o.reshape(*o.shape[:-1], *jnp.shape(values)[-2:])


def _flatten(query: Any, keys: Any, values: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Query and keys as `[..., C, N]`, values as `[..., N]`, in one dtype; ValueError if unfit."""
    query, keys, values = jnp.asarray(query), jnp.asarray(keys), jnp.asarray(values)
    expected = keys.shape[-2:] if query.ndim == keys.ndim - 1 else keys.shape[-3:]
    fits = query.shape[-len(expected) :] == expected and values.shape[-2:] == keys.shape[-2:]
    if keys.ndim < 3 or not fits:
        raise ValueError(
            'Expected query [..., C, H, W] or [..., H, W], keys [..., C, H, W] and values '
            f'[..., H, W], got {query.shape}, {keys.shape} and {values.shape}.'
        )
    if query.ndim == keys.ndim - 1:
        query = jnp.broadcast_to(query[..., None, :, :], keys.shape)
    dtype = jnp.promote_types(jnp.result_type(query, keys, values), jnp.float32)
    q, k = (x.astype(dtype).reshape(*x.shape[:-2], -1) for x in (query, keys))
    return q, k, values.astype(dtype).reshape(*values.shape[:-2], -1)


def _blocks(x: jax.Array, size: int, fill: Any = 0) -> jax.Array:
    """Cuts the last axis into padded blocks, and puts their number in front."""
    pad = [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % size)]
    x = jnp.pad(x, pad, constant_values=fill)
    return jnp.moveaxis(x.reshape(*x.shape[:-1], -1, size), -2, 0)


@functools.partial(jax.jit, static_argnames='max_score')
def _linear_attention(
    a: jax.Array, b: jax.Array, v: jax.Array, max_score: float
) -> tuple[jax.Array, jax.Array]:
    """Mean of values v, `[..., 1, 1]`, and o's deviation from it, `[..., H, W]`; scores a_n b_m."""
    a, b, v = (x.astype(jnp.float32) for x in (a, b, v))
    shape = jnp.broadcast_shapes(a.shape, b.shape, v.shape)
    # In shard_map only some may differ between devices; their derivatives all do. XLA folds this.
    never = jnp.any(a != a) & jnp.any(b != b) & jnp.any(v != v) & False
    a, b, v = (jnp.where(never, 0, jnp.broadcast_to(x, shape)) for x in (a, b, v))
    return _mean_and_deviation(a, b, v, _number_of_terms(max_score))


def _number_of_terms(max_score: float) -> int:
    """Terms of exp(z) after which the remainder is below `_SERIES_ERROR` of exp(z), z <= max_score.

    The remainder's share is the tail of a Poisson distribution, which grows with z.
    """
    terms, term, covered = 0, math.exp(-max_score), 0.0
    while terms < 2 or 1 - covered > _SERIES_ERROR:
        covered += term
        terms += 1
        term *= max_score / terms
    return terms


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _mean_and_deviation(
    a: jax.Array, b: jax.Array, v: jax.Array, terms: int
) -> tuple[jax.Array, jax.Array]:
    """Mean of v and `sum_m (v_m - mean) exp(a_n b_m) / sum_m exp(a_n b_m)`.

    Most pixels are far from every critical point, so that o is hardly more than the mean: summing
    deviations keeps the digits that o - mean would lose. Autodiff would keep one image a term for
    the backward pass, so the derivatives are written out; they are moments and polynomials again.
    """
    return _forward(a, b, v, terms)[0]


def _forward(a: jax.Array, b: jax.Array, v: jax.Array, terms: int) -> tuple[Any, Any]:
    mean = jnp.mean(v, axis=(-2, -1), keepdims=True)
    numerator = _moments(b, v - mean, terms)
    denominator = _moments(b, None, terms)
    return (mean, _polynomial(numerator, a) / _polynomial(denominator, a)), (
        a,
        b,
        v - mean,
        numerator,
        denominator,
    )


def _backward(terms: int, residuals: Any, cotangents: Any) -> tuple[jax.Array, ...]:
    a, b, w, numerator, denominator = residuals
    to_mean, to_deviation = cotangents
    pixels = w.shape[-2] * w.shape[-1]
    total = _polynomial(denominator, a)
    deviation = _polynomial(numerator, a) / total

    slope = _derivative(numerator, a) - deviation * _derivative(denominator, a)
    to_a = to_deviation * slope / total

    share = to_deviation / total
    to_v = _polynomial([jnp.zeros_like(to_mean), *_moments(a, share, terms)[1:]], b)
    # The constant term, sum of share * (1 - total / pixels), without its cancellation.
    excess = _polynomial([jnp.zeros_like(to_mean), *denominator[1:]], a)
    to_v += (to_mean - jnp.sum(share * excess, axis=(-2, -1), keepdims=True)) / pixels

    gain = _polynomial(_moments(a, share * a, terms), b)
    loss = _polynomial(_moments(a, share * a * deviation, terms), b)
    return to_a, w * gain - loss, to_v


_mean_and_deviation.defvjp(_forward, _backward)


def _moments(x: jax.Array, weights: jax.Array | None, terms: int) -> list[jax.Array]:
    """Sums over the image of `weights * x^j / j!` for j < terms, each `[..., 1, 1]`."""

    def step(power: jax.Array, j: jax.Array) -> tuple[jax.Array, jax.Array]:
        return power * (x / (j + 1)), jnp.sum(power, axis=(-2, -1), keepdims=True)

    first = jnp.ones_like(x) if weights is None else weights
    # A loop keeps one power at a time; written out, XLA keeps them all, an image for each term.
    _, moments = jax.lax.scan(step, first, jnp.arange(terms, dtype=x.dtype))
    return list(moments)


def _polynomial(coefficients: list[jax.Array], x: jax.Array) -> jax.Array:
    """`sum_j coefficients[j] x^j` by Horner's rule."""
    result = jnp.broadcast_to(coefficients[-1], x.shape)
    for coefficient in coefficients[-2::-1]:
        result = result * x + coefficient
    return result


def _derivative(coefficients: list[jax.Array], x: jax.Array) -> jax.Array:
    return _polynomial([j * c for j, c in enumerate(coefficients)][1:], x)


@jax.jit
def _min_max(x: jax.Array) -> jax.Array:
    """Scales each image to [0, 1]; constant ones become 0."""
    low = jnp.min(x, axis=(-2, -1), keepdims=True)
    span = jnp.max(x, axis=(-2, -1), keepdims=True) - low
    return jnp.where(span > 0, (x - low) / jnp.where(span > 0, span, 1), 0)
