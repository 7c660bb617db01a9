"""The softmax attention with all scores, for any queries: the oracle, and a blockwise form."""

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
    o = _attend(q, k, v)
    return o.reshape(*o.shape[:-1], *jnp.shape(values)[-2:])


def blockwise_attention(query: Any, keys: Any, values: Any, *, block_size: int = 512) -> jax.Array:
    """The softmax attention for any queries, in linear memory: N^2 time, N x block_size numbers.

    Args:
        query, keys, values: of `dense_attention`.
        block_size: pixels that are compared with all others at a time.

    Returns:
        o, as of `dense_attention`. The gradient takes linear memory too: it computes the scores
        again.

    Example:
        >>> import jax.numpy as jnp
        >>> cp = jnp.zeros((1, 1, 3))
        >>> blockwise_attention(cp, cp, jnp.array([[0.0, 0.25, 0.5]]), block_size=2).tolist()
        [[0.25, 0.25, 0.25]]
    """
    q, k, v = _flatten(query, keys, values)

    @jax.checkpoint
    def of_pixel(q: jax.Array) -> jax.Array:
        return _attend(q[..., None], k, v)[..., 0]

    o = jnp.moveaxis(jax.lax.map(of_pixel, jnp.moveaxis(q, -1, 0), batch_size=block_size), 0, -1)
    return o.reshape(*o.shape[:-1], *jnp.shape(values)[-2:])


def _attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    scores = jnp.einsum('...cn,...cm->...nm', q, k, precision='highest')
    return jnp.einsum('...nm,...m->...n', jax.nn.softmax(scores, axis=-1), v, precision='highest')


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
