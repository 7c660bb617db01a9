"""The poster's attention: spatial topological attention (STA) and iterative attention (ITA).

Everything here takes probability maps of any model and has no parameters.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from taclnet_jax.attention.linear import MAX_SCORE, linear_attention
from taclnet_jax.topology import critical_map


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
        target: index of the slice to refine, from the end if below 0; the middle one by default.
        alpha: weight of the attention in the refined probability.
        sigma: width of the critical maps' Gaussian in pixels; a Python number, as the next.
        min_persistence: lowest persistence of a critical point.
        border, backend: 'membrane' or 'open', 'gudhi' or 'xla'; see `persistence_pairs`.
        history: the attention of the epoch before, `[..., H, W]`, or None; see
            `iterative_attention` for this and `beta`.

    Returns:
        `STAOutput` in `prob`'s dtype. Its gradient flows through the target slice's probability;
        critical maps are constants. A window whose target has no critical points gets an attention
        of 0. NaN in a slice: it has no critical points, attention is 0 at its NaN pixels, and NaN
        stays where it was in `refined`. Derivatives are of reverse mode: `jax.grad`, not `jax.jvp`.

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
    if slices > MAX_SCORE:
        raise ValueError(f'prob must have at most {MAX_SCORE:g} slices, got {slices}.')
    target = slices // 2 if target is None else target
    if not -slices <= target < slices:
        raise ValueError(f'target must be from {-slices} to {slices - 1}, got {target}.')
    shape = prob.shape[:-3] + prob.shape[-2:]
    if history is not None and jnp.shape(history) != shape:
        raise ValueError(
            f'history must have the shape of the attention, {shape}, got {jnp.shape(history)}.'
        )

    critical_maps = critical_map(
        prob, sigma=sigma, min_persistence=min_persistence, border=border, backend=backend
    )
    p = prob[..., target, :, :].astype(jnp.float32)
    # A slice with NaN has no critical points, its attention is constant whatever its values are.
    values = jnp.where(jnp.isnan(p), 0, p)
    # The normalisation removes the mean of o, which would only cost digits.
    query = critical_maps[..., target, :, :]
    _, o = linear_attention(query, jnp.sum(critical_maps, -3, jnp.float32), values, slices)
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
    memory, new = jax.lax.stop_gradient(jnp.asarray(memory)), jnp.asarray(attention)
    return jnp.asarray(beta * memory + (1 - beta) * new, new.dtype)


@jax.jit
def _min_max(x: jax.Array) -> jax.Array:
    """Scales each image to [0, 1]; constant ones become 0."""
    low = jnp.min(x, axis=(-2, -1), keepdims=True)
    span = jnp.max(x, axis=(-2, -1), keepdims=True) - low
    return jnp.where(span > 0, (x - low) / jnp.where(span > 0, span, 1), 0)
