"""Attention of one repeated query map, exact in linear time: the series of exp."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from scipy.special import pdtrc

# Remainder of the exponential series that float32 does not notice.
_SERIES_ERROR = 2.0**-27
# Beyond this the series takes more terms than it saves.
MAX_SCORE = 64.0


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
        >>> from taclnet_jax.attention import dense_attention
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
    if not 0 <= max_score <= MAX_SCORE:
        raise ValueError(
            f'max_score must be in [0, {MAX_SCORE:g}], got {max_score}: '
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
    mean, deviation = linear_attention(a / scale, b * scale, values, max_score)
    o = jnp.where(valid[..., None, None], mean + deviation, jnp.nan)
    return o.astype(values.dtype)


@functools.partial(jax.jit, static_argnames='max_score')
def linear_attention(
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
    return next(n for n in itertools.count(2) if pdtrc(n - 1, max_score) <= _SERIES_ERROR)


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


def _forward(
    a: jax.Array, b: jax.Array, v: jax.Array, terms: int
) -> tuple[tuple[jax.Array, jax.Array], Any]:
    mean = jnp.mean(v, axis=(-2, -1), keepdims=True)
    w = v - mean
    numerator, denominator = _moments(b, w, terms), _moments(b, jnp.ones_like(b), terms)
    deviation = _polynomial(numerator, a) / _polynomial(denominator, a)
    return (mean, deviation), (a, b, w, numerator, denominator)


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


def _moments(x: jax.Array, weights: jax.Array, terms: int) -> list[jax.Array]:
    """Sums over the image of `weights * x^j / j!` for j < terms, each `[..., 1, 1]`."""

    def step(power: jax.Array, j: jax.Array) -> tuple[jax.Array, jax.Array]:
        return power * (x / (j + 1)), jnp.sum(power, axis=(-2, -1), keepdims=True)

    # A loop keeps one power at a time; written out, XLA keeps them all, an image for each term.
    _, moments = jax.lax.scan(step, weights, jnp.arange(terms, dtype=x.dtype))
    return list(moments)


def _polynomial(coefficients: list[jax.Array], x: jax.Array) -> jax.Array:
    """`sum_j coefficients[j] x^j` by Horner's rule."""
    result = jnp.broadcast_to(coefficients[-1], x.shape)
    for coefficient in coefficients[-2::-1]:
        result = result * x + coefficient
    return result


def _derivative(coefficients: list[jax.Array], x: jax.Array) -> jax.Array:
    return _polynomial([j * c for j, c in enumerate(coefficients)][1:], x)
