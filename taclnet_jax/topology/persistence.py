"""Persistence pairs and diagrams of 2-d images, as JAX arrays of a fixed size."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from taclnet_jax.topology import gudhi_backend, xla_backend


class Backend(Protocol):
    """A module for float32 images `[..., H, W]`; its options are those of `check_options`."""

    def pairs(
        self, prob: jax.Array, *, max_pairs: int, **options: Any
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Flat births and deaths `[..., max_pairs]`, most persistent first, and the count found."""

    def points(
        self, prob: jax.Array, *, min_persistence: float, kind: str, **options: Any
    ) -> jax.Array:
        """The critical points' boolean maps `[..., H, W]`."""


BACKENDS: dict[str, Backend] = {'gudhi': gudhi_backend, 'xla': xla_backend}


class PersistencePairs(NamedTuple):
    """The pixels where topological features are born and die, most persistent first.

    Attributes:
        birth: (row, column) of births, int32 `[..., K, 2]`; (0, 0) where `mask` is False.
        death: (row, column) of deaths, likewise.
        mask: which of the K places hold a pair, bool `[..., K]`.
        dropped: number of pairs that did not fit into K places, int32 `[...]`.
    """

    birth: jax.Array
    death: jax.Array
    mask: jax.Array
    dropped: jax.Array


def persistence_pairs(
    prob: Any,
    *,
    dimension: int = 1,
    border: str = 'membrane',
    max_pairs: int | None = None,
    filtration: str = 'superlevel',
    backend: str = 'gudhi',
) -> PersistencePairs:
    """Finds the pixels at which features of the images' level sets are born and die.

    The pixels are closed squares, so that sets are 8-connected and their holes 4-connected. A pair
    has a positive persistence; the one component that never dies is not listed. Among pixels of
    equal value the one with the lower flat index enters a superlevel or a sublevel set first. Both
    backends return the same pairs.

    Args:
        prob: images `[..., H, W]` of any floating dtype; read as float32. Images with NaN have no
            pairs. The result is a constant to the gradient.
        dimension: 0 for components, 1 for loops.
        border: 'membrane' puts a frame around the image that is in the set from the beginning,
            so that what the frame cuts still closes (the frame's own loop is not listed); 'open'
            takes the image alone.
        max_pairs: K, the number of places. By default so many that every pair fits, which is up to
            H * W / 2 of them: less takes less memory, and `dropped` says what did not fit.
        filtration: 'superlevel' (features of high values) or 'sublevel'.
        backend: 'gudhi' (on the host, through a callback) or 'xla' (on the device).

    Returns:
        `PersistencePairs`, by descending persistence, then ascending birth and death.

    Raises:
        ValueError: an argument is outside of what is listed here.
        RuntimeError: the callback could hang (see `check_callbacks_can_run`).

    Example:
        A loop of membrane that is born at its weakest pixel:

        >>> import jax.numpy as jnp
        >>> prob = jnp.full((8, 8), 0.125).at[1:6, 1:6].set(0.875).at[2:5, 2:5].set(0.25)
        >>> prob = prob.at[3, 5].set(0.5)
        >>> pairs = persistence_pairs(prob, border='open', max_pairs=1)
        >>> pairs.birth.tolist(), pairs.death.tolist(), int(pairs.dropped)
        ([[3, 5]], [[4, 4]], 0)
    """
    image = as_images(prob)
    options = check_options(dimension, border, filtration, backend)
    height, width = image.shape[-2:]
    if max_pairs is None:
        # Peaks are never neighbours of each other.
        most_pairs = (height + 1) // 2 * ((width + 1) // 2), (height * width + 1) // 2
        max_pairs = most_pairs[dimension]
    elif max_pairs < 1:
        raise ValueError(f'max_pairs must be positive, got {max_pairs}.')
    birth, death, count = BACKENDS[backend].pairs(image, max_pairs=max_pairs, **options)
    return PersistencePairs(
        birth=jnp.stack(jnp.divmod(birth, width), axis=-1),
        death=jnp.stack(jnp.divmod(death, width), axis=-1),
        mask=jnp.arange(max_pairs) < count[..., None],
        dropped=jnp.maximum(count - max_pairs, 0),
    )


def persistence_diagram(prob: Any, **options: Any) -> tuple[jax.Array, jax.Array]:
    """Values of `prob` at its persistence pairs, with gradients to `prob`.

    Args:
        prob: images `[..., H, W]`.
        **options: of `persistence_pairs`.

    Returns:
        `diagram`, `[..., K, 2]` of `prob`'s dtype: values at birth and death, equal to each other
        (so of no persistence) and without gradient where there is no pair; and the mask `[..., K]`.
        The gradient of a value goes to the one pixel that it was read from.

    Example:
        >>> import jax.numpy as jnp
        >>> prob = jnp.full((8, 8), 0.125).at[1:6, 1:6].set(0.875).at[2:5, 2:5].set(0.25)
        >>> prob = prob.at[3, 5].set(0.5)
        >>> diagram, mask = persistence_diagram(prob, border='open', max_pairs=1)
        >>> diagram.tolist(), mask.tolist()
        ([[0.5, 0.25]], [True])
    """
    prob = jnp.asarray(prob)
    pairs = persistence_pairs(prob, **options)
    flat = prob.reshape(*prob.shape[:-2], -1)
    width = prob.shape[-1]

    def values(pixels: jax.Array) -> jax.Array:
        index = pixels[..., 0] * width + pixels[..., 1]
        return jnp.where(pairs.mask, jnp.take_along_axis(flat, index, axis=-1), 0)

    return jnp.stack([values(pairs.birth), values(pairs.death)], axis=-1), pairs.mask


def as_images(prob: Any) -> jax.Array:
    """`prob` as float32 images without a gradient; ValueError if they are none."""
    images = jnp.asarray(prob)
    if images.ndim < 2 or 0 in images.shape[-2:]:
        raise ValueError(f'prob must have the shape [..., height, width], got {images.shape}.')
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f'prob must be floating point, got {images.dtype}.')
    if isinstance(images, jax.core.Tracer):
        images = jax.lax.stop_gradient(images)
    return images.astype(jnp.float32)


def check_options(dimension: int, border: str, filtration: str, backend: str) -> dict[str, Any]:
    """The options that every backend takes; ValueError names one that cannot be."""
    check_choice('dimension', dimension, (0, 1))
    check_choice('border', border, ('membrane', 'open'))
    check_choice('filtration', filtration, ('superlevel', 'sublevel'))
    check_choice('backend', backend, BACKENDS)
    return dict(dimension=dimension, border=border, superlevel=filtration == 'superlevel')


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """ValueError unless `value` is one of the choices."""
    if value not in (choices := tuple(choices)):
        raise ValueError(f'{name} must be one of {choices}, got {value!r}.')
