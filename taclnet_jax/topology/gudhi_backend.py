"""Persistence on the host: gudhi's fast 2-d cubical code, called back from JAX in a thread pool.

`gudhi.sklearn.CubicalPersistence` is many times faster than `gudhi.CubicalComplex`
(`python -m benchmarks.topology`), but it returns values, not pixels. So it is given keys in place
of values: numbers in the order of the image, all different, with the pixel's own index in their
lowest bits. The births and deaths that come back are keys, and every key names its pixel.
"""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taclnet_jax.cores import available_cores

# float64 counts exactly up to here.
_EXACT_BITS = 53
_FRAME = -1.0


def check_callbacks_can_run() -> None:
    """Raises RuntimeError where a callback could hang; training calls it before it starts.

    On CPU, a callback's arguments of 100 KiB and more are copied by the thread pool that also runs
    the computations which wait for it, as many as devices: the pool needs one worker more. It has
    NPROC (by default the cores this process may use), and at least as many as devices.
    """
    if jax.default_backend() != 'cpu':
        return
    devices = len(jax.local_devices(backend='cpu'))
    workers = max(int(os.environ.get('NPROC') or len(available_cores())), devices)
    if workers <= devices:
        raise RuntimeError(
            f"backend='gudhi' could hang: its callbacks need more worker threads than the "
            f'{devices} CPU device(s) of JAX, which has {workers}. Set the environment variable '
            f"NPROC={devices + 1} or higher before JAX starts, or use backend='xla'."
        )


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=len(available_cores()), thread_name_prefix='persistence')


@functools.cache
def _engine(dimension: int) -> Any:
    # gudhi.sklearn loads scikit-learn, which takes seconds: only whoever needs it should wait.
    from gudhi.sklearn import CubicalPersistence

    return CubicalPersistence(homology_dimensions=dimension).fit([])


def _filtration(
    image: np.ndarray, framed: bool, superlevel: bool
) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Gives each pixel of a float32 image a key of its own, in the order of (value, flat index).

    Returns:
        These float64 keys, `[H, W]`, or `[H + 2, W + 2]` with a frame that enters first; int32
        codes `[H * W]` in the order of the values; and a function from keys to flat indices.
    """
    # A constant image has no pairs, as is promised of one with NaN. max() passes NaN on.
    bits = (np.zeros_like(image) if np.isnan(image.max()) else image).view(np.int32)
    if bits.min() < 0:
        # From sign and magnitude to an integer, for which -0.0 is 0 too.
        bits = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    codes = -bits if superlevel else bits
    lowest, highest = int(codes.min()), int(codes.max())
    height, width = codes.shape
    index_bits = (codes.size - 1).bit_length()
    mask = (1 << index_bits) - 1

    margin = int(framed)
    cells = np.full((height + 2 * margin, width + 2 * margin), _FRAME)
    inner = cells[margin : margin + height, margin : margin + width]
    if (highest - lowest).bit_length() + index_bits <= _EXACT_BITS:
        np.subtract(codes, float(lowest), out=inner)
        inner *= 1 << index_bits
        inner += np.arange(float(codes.size)).reshape(codes.shape)
        return cells, codes.reshape(-1), lambda key: key.astype(np.int64) & mask
    # A wide range of values on a large image: take the ranks of the keys, which are small.
    keys = (codes.reshape(-1).astype(np.int64) - lowest) << index_bits
    pixels = np.sort(keys | np.arange(codes.size)) & mask
    inner.flat[pixels] = np.arange(codes.size)
    return cells, codes.reshape(-1), lambda rank: pixels[rank.astype(np.int64)]


def pairs_of_images(
    images: np.ndarray, *, dimension: int, border: str, superlevel: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Births and deaths of float32 images `[N, H, W]` as flat indices, in no particular order.

    Pairs of equal values and the class that never dies are left out. An image with NaN has none.
    """
    filtrations = [_filtration(image, border == 'membrane', superlevel) for image in images]
    diagrams = _engine(dimension).transform([cells for cells, _, _ in filtrations])
    found = []
    for (_, codes, pixel_of), diagram in zip(filtrations, diagrams, strict=True):
        diagram = diagram[(diagram[:, 0] != _FRAME) & np.isfinite(diagram[:, 1])]
        birth, death = pixel_of(diagram[:, 0]), pixel_of(diagram[:, 1])
        differ = codes[birth] != codes[death]
        found.append((birth[differ], death[differ]))
    return found


def _call_back(
    prob: jax.Array,
    results: Sequence[tuple[tuple[int, ...], Any]],
    write: Callable[..., None],
    options: dict[str, Any],
) -> tuple[jax.Array, ...]:
    """Arrays `[..., *shape]` for each shape and dtype in `results`, of `prob`, `[..., H, W]`.

    The host fills them, image by image: `write` takes an image's flat births and deaths, their
    persistence, and the zeros of its results to write to.
    """

    def on_host(prob: Any) -> tuple[np.ndarray, ...]:
        images = np.ascontiguousarray(prob, np.float32)
        stack = images.reshape(-1, *images.shape[-2:])
        found = [np.zeros((len(stack), *shape), dtype) for shape, dtype in results]
        chunks = min(len(stack), len(available_cores()))

        def run(start: int) -> None:
            pairs = pairs_of_images(stack[start::chunks], **options)
            for i, (birth, death) in zip(range(start, len(stack), chunks), pairs, strict=True):
                values = stack[i].reshape(-1)
                with np.errstate(invalid='ignore', over='ignore'):
                    persistence = np.abs(values[birth] - values[death])
                write(birth, death, persistence, *(x[i, ...] for x in found))

        if chunks == 1:  # without the pool, which takes as long as a small image
            run(0)
        else:
            list(_pool().map(run, range(chunks)))
        return tuple(x.reshape(images.shape[:-2] + x.shape[1:]) for x in found)

    if not isinstance(prob, jax.core.Tracer) and prob.is_fully_addressable:
        # Outside of jit there is nothing to call back from, which takes longer than a small image.
        return tuple(map(jnp.asarray, on_host(prob)))
    check_callbacks_can_run()
    shapes = [jax.ShapeDtypeStruct(prob.shape[:-2] + shape, dtype) for shape, dtype in results]
    found = jax.pure_callback(on_host, tuple(shapes), prob, vmap_method='expand_dims')
    # In shard_map the results of a callback count as equal on all devices, unless they depend on
    # something that differs. XLA folds this away.
    nothing = jnp.any(prob != prob) & False
    return tuple(x ^ nothing.astype(x.dtype) for x in found)


def points(prob: jax.Array, *, min_persistence: float, kind: str, **options: Any) -> jax.Array:
    """The critical points' boolean maps, shaped like `prob`, `[..., H, W]` float32."""

    def mark(birth: np.ndarray, death: np.ndarray, size: np.ndarray, found: np.ndarray) -> None:
        lasting = size > np.float32(min_persistence)
        if kind != 'death':
            found.flat[birth[lasting]] = True
        if kind != 'birth':
            found.flat[death[lasting]] = True

    (found,) = _call_back(prob, [(prob.shape[-2:], bool)], mark, options)
    return found


def pairs(
    prob: jax.Array, *, max_pairs: int, **options: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Flat births and deaths `[..., max_pairs]`, most persistent first, and the count found."""

    def sort(birth: np.ndarray, death: np.ndarray, size: np.ndarray, *found: np.ndarray) -> None:
        births, deaths, count = found
        order = np.lexsort((death, birth, -size))[:max_pairs]
        births[: len(order)] = birth[order]
        deaths[: len(order)] = death[order]
        count[...] = len(birth)

    places = (max_pairs,), np.int32
    births, deaths, count = _call_back(prob, [places, places, ((), np.int32)], sort, options)
    return births, deaths, count
