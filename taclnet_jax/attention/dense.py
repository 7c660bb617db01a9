"""The softmax attention with all scores, for any queries: the oracle, and a blockwise form."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


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
