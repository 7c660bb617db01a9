"""Persistence pairs of both backends against gudhi's general code, scikit-image and theory."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import gudhi
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, PartitionSpec
from skimage import measure

from taclnet_jax.topology import (
    BACKENDS,
    critical_points,
    gudhi_backend,
    persistence_diagram,
    persistence_pairs,
    xla_backend,
)

BORDERS = ('membrane', 'open')
DATA = os.environ.get('TACLNET_DATA_DIR')
VECTORS = sorted((Path(DATA) / 'vectors').glob('persistence_*.npz')) if DATA else []
needs_data = pytest.mark.skipif(not VECTORS, reason='TACLNET_DATA_DIR is not set or has no vectors')


def smooth(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """An image `[..., H, W]` in [0, 1] without ties."""
    from scipy import ndimage

    field = np.random.default_rng(seed).normal(size=shape)
    field = ndimage.gaussian_filter(field, (0,) * (len(shape) - 2) + (1.5, 1.5))
    ranks = np.argsort(np.argsort(field, axis=None)).reshape(shape)
    return (ranks / ranks.max()).astype(np.float32)


def values_by_cubical_complex(
    prob: np.ndarray, dimension: int, border: str, superlevel: bool = True
) -> list[tuple[float, float]]:
    """The diagram of one image as a sorted list, by gudhi's general code."""
    cells = (-prob if superlevel else prob).astype(np.float64)
    lowest = -1e39
    if border == 'membrane':
        cells = np.pad(cells, 1, constant_values=lowest)
    complex_ = gudhi.CubicalComplex(top_dimensional_cells=cells)
    complex_.compute_persistence()
    diagram = complex_.persistence_intervals_in_dimension(dimension).reshape(-1, 2)
    kept = np.isfinite(diagram[:, 1]) & (diagram[:, 0] > lowest)
    diagram = diagram[kept] * (-1 if superlevel else 1) + 0.0
    return sorted(map(tuple, diagram))


def values_at(prob: np.ndarray, birth: np.ndarray, death: np.ndarray) -> list[tuple[float, float]]:
    flat = prob.reshape(-1).astype(np.float64) + 0.0
    return sorted(zip(flat[birth], flat[death], strict=True))


def pixels(pairs: Any) -> set[tuple[int, ...]]:
    """The pairs of one image as a set of (birth row, column, death row, column)."""
    both = np.concatenate([pairs.birth, pairs.death], axis=-1)[np.asarray(pairs.mask)]
    return set(map(tuple, both.tolist()))


def assert_same(one: Any, other: Any) -> None:
    for name, x, y in zip(one._fields, one, other, strict=True):
        np.testing.assert_array_equal(x, y, err_msg=name)


def pairs_of_all_backends(prob: np.ndarray, **options: Any) -> Any:
    one, *others = (persistence_pairs(prob, backend=name, **options) for name in BACKENDS)
    for other in others:
        assert_same(one, other)
    return one


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('path', VECTORS, ids=lambda path: path.stem[12:])
def test_vectors(path: Path, backend: str) -> None:
    data = np.load(path)
    prob = data['prob']
    for prefix, border in (('', 'open'), ('framed_', 'membrane')):
        pairs = persistence_pairs(prob, border=border, backend=backend)
        assert pairs.dropped == 0
        if f'{prefix}birth' in data:
            expected = np.hstack([data[f'{prefix}birth'], data[f'{prefix}death']])
            assert pixels(pairs) == set(map(tuple, expected.tolist()))
        else:
            found = np.array(sorted(pixels(pairs)), int).reshape(-1, 4).T
            got = sorted(zip(prob[found[0], found[1]], prob[found[2], found[3]], strict=True))
            expected = np.array(sorted(map(tuple, data[f'{prefix}values']))).reshape(-1, 2)
            np.testing.assert_allclose(np.reshape(got, (-1, 2)), expected)


images = st.integers(0, 2**32 - 1).flatmap(
    lambda seed: st.tuples(
        st.just(np.random.default_rng(seed)),
        st.tuples(st.integers(1, 13), st.integers(1, 13)),
        st.sampled_from(['noise', '2 values', '8 bit', 'constant', 'plateaus', 'any float']),
    )
)


def draw(rng: np.random.Generator, shape: tuple[int, int], kind: str) -> np.ndarray:
    image = rng.random(shape)
    if kind == '2 values':
        image = np.round(image)
    elif kind == '8 bit':
        image = np.round(image * 255) / 255
    elif kind == 'constant':
        image = np.full(shape, image.flat[0])
    elif kind == 'plateaus':
        image = np.clip(3 * image - 1, 0, 1)
    elif kind == 'any float':
        image = rng.choice([0.0, -0.0, 1e-40, -1e-40, 1, -1, 3e38, -3e38], shape)
    return image.astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(images, st.integers(0, 1), st.sampled_from(BORDERS), st.booleans())
def test_host_pairs_have_the_values_of_cubical_complex(
    image: Any, dimension: int, border: str, superlevel: bool
) -> None:
    prob = draw(*image)
    ((birth, death),) = gudhi_backend.pairs_of_images(
        prob[None], dimension=dimension, border=border, superlevel=superlevel
    )
    expected = values_by_cubical_complex(prob, dimension, border, superlevel)
    assert values_at(prob, birth, death) == expected


# Few shapes: every one is compiled for each set of options.
SHAPES = ((8, 9),)
LARGER = (40, 44)


@settings(max_examples=80, deadline=None)
@given(images, st.sampled_from(SHAPES), st.integers(0, 1), st.sampled_from(BORDERS))
def test_both_backends_agree_pixel_by_pixel(
    image: Any, shape: tuple[int, int], dimension: int, border: str
) -> None:
    rng, _, kind = image
    # Differences of denormal numbers are 0 to XLA.
    prob = draw(rng, shape, 'noise' if kind == 'any float' else kind)
    pairs = pairs_of_all_backends(prob, dimension=dimension, border=border)
    birth, death = (np.ravel_multi_index(np.moveaxis(x, -1, 0), shape) for x in pairs[:2])
    mask = np.asarray(pairs.mask)
    assert values_at(prob, birth[mask], death[mask]) == values_by_cubical_complex(
        prob, dimension, border
    )
    assert pairs.dropped == 0


@pytest.mark.slow
@pytest.mark.parametrize('dimension', (0, 1))
@pytest.mark.parametrize('border', BORDERS)
def test_backends_agree_on_larger_images(dimension: int, border: str) -> None:
    prob = smooth((3, 60, 47))
    for image in (prob, np.round(prob * 20) / 20):
        pairs = pairs_of_all_backends(image, dimension=dimension, border=border)
        assert pairs.mask.sum() > 30


@pytest.mark.slow
@pytest.mark.parametrize('backend', BACKENDS)
def test_sublevel_sets_are_superlevel_sets_of_the_negative(backend: str) -> None:
    prob = smooth(LARGER)
    assert_same(
        persistence_pairs(prob, filtration='sublevel', backend=backend),
        persistence_pairs(-prob, filtration='superlevel', backend=backend),
    )


@pytest.mark.parametrize('dimension', (0, 1))
def test_pixels_are_those_of_cubical_complex(dimension: int) -> None:
    prob = smooth(LARGER, seed=5)
    complex_ = gudhi.CubicalComplex(top_dimensional_cells=-prob)
    complex_.compute_persistence()
    cells = complex_.cofaces_of_persistence_pairs()[0][dimension]
    rows, columns = np.unravel_index(cells, prob.shape, order='F')
    expected = np.stack([rows[:, 0], columns[:, 0], rows[:, 1], columns[:, 1]], axis=1)
    for backend in BACKENDS:
        pairs = persistence_pairs(prob, dimension=dimension, border='open', backend=backend)
        assert pixels(pairs) == set(map(tuple, expected.tolist()))


@pytest.mark.parametrize('backend', BACKENDS)
def test_loops_of_a_binary_image_are_its_holes(backend: str) -> None:
    for density in (0.3, 0.5, 0.7):
        membrane = np.random.default_rng(3).random(LARGER) < density
        prob = membrane.astype(np.float32)
        background = measure.label(~membrane, connectivity=1)
        edges = [background[0], background[-1], background[:, 0], background[:, -1]]
        holes = background.max() - np.count_nonzero(np.unique(np.concatenate(edges)))
        # In a frame every piece of background is a hole; the frame's own loop is not listed.
        for border, expected in (('open', holes), ('membrane', background.max() - 1)):
            pairs = persistence_pairs(prob, border=border, backend=backend)
            assert pairs.mask.sum() == expected
        # Neither is the component that is never absorbed.
        components = measure.label(membrane, connectivity=2).max()
        pairs = persistence_pairs(prob, dimension=0, border='open', backend=backend)
        assert pairs.mask.sum() == components - 1


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('dimension', (0, 1))
def test_diagrams_are_stable(backend: str, dimension: int) -> None:
    prob = smooth(LARGER)
    change = 0.05 * np.random.default_rng(1).uniform(-1, 1, prob.shape).astype(np.float32)
    diagrams = []
    for image in (prob, prob + change):
        diagram, mask = persistence_diagram(
            image, dimension=dimension, border='open', backend=backend
        )
        # Bottleneck distances take births below deaths.
        diagrams.append(-np.asarray(diagram)[np.asarray(mask)])
    distance = gudhi.bottleneck_distance(*diagrams)
    assert 0 < distance <= np.abs(change).max() + 1e-6


def test_ranks_replace_keys_that_float64_cannot_count(monkeypatch: pytest.MonkeyPatch) -> None:
    prob = np.round(smooth((2, 30, 31)) * 100) / 100 - 0.5
    options = dict(dimension=1, border='membrane', superlevel=True)
    by_key = gudhi_backend.pairs_of_images(prob, **options)
    monkeypatch.setattr(gudhi_backend, '_EXACT_BITS', 20)
    for one, other in zip(by_key, gudhi_backend.pairs_of_images(prob, **options), strict=True):
        assert set(zip(*one, strict=True)) == set(zip(*other, strict=True))
        assert len(one[0]) > 10


@pytest.mark.parametrize('cores', (1, 2, 9))
def test_images_are_shared_out_among_cores(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    prob = smooth((5, 12, 13))
    alone = [persistence_pairs(image) for image in prob]
    monkeypatch.setattr(gudhi_backend, 'available_cores', lambda: range(cores))
    for together, one in zip(zip(*persistence_pairs(prob), strict=True), alone, strict=True):
        assert_same(one, together)


@pytest.mark.slow
@pytest.mark.parametrize('backend', BACKENDS)
def test_pairs_are_sorted_and_those_left_out_are_counted(backend: str) -> None:
    prob = np.round(smooth((2, 25, 25)) * 16) / 16
    every = persistence_pairs(prob, backend=backend)
    count = np.asarray(every.mask.sum(-1))
    diagram, mask = persistence_diagram(prob, backend=backend)
    persistence = np.asarray(diagram[..., 0] - diagram[..., 1])
    assert (np.diff(persistence, axis=-1) <= 0).all()
    assert (persistence[np.asarray(mask)] > 0).all()
    some = persistence_pairs(prob, backend=backend, max_pairs=5)
    np.testing.assert_array_equal(some.birth, every.birth[:, :5])
    np.testing.assert_array_equal(some.death, every.death[:, :5])
    np.testing.assert_array_equal(some.dropped, count - 5)
    many = persistence_pairs(prob, backend=backend, max_pairs=2000)
    assert many.birth.shape == (2, 2000, 2)
    np.testing.assert_array_equal(many.mask.sum(-1), count)


@pytest.mark.parametrize('backend', BACKENDS)
def test_plateaus_are_one_feature(backend: str) -> None:
    # Two cells in membrane, all of saturated values, and a weak place beside one of them.
    prob = np.ones(LARGER, np.float32)
    prob[5:25, 4:16] = 0
    prob[5:25, 22:36] = 0
    prob[10:13, 36:] = 0.5
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        image = jnp.asarray(prob, dtype)
        diagram, mask = persistence_diagram(image, border='open', backend=backend)
        assert diagram.dtype == dtype
        np.testing.assert_array_equal(diagram[mask], [[1, 0], [0.5, 0]])


@pytest.mark.slow
@pytest.mark.parametrize('backend', BACKENDS)
def test_images_with_nan_have_no_pairs_and_leave_the_others_alone(backend: str) -> None:
    prob = smooth((3, 20, 20))
    prob[1, 4, 5] = np.nan
    pairs = persistence_pairs(prob, backend=backend)
    assert not pairs.mask[1].any()
    alone = persistence_pairs(prob[2], backend=backend)
    np.testing.assert_array_equal(pairs.birth[2], alone.birth)
    assert not persistence_pairs(np.full((4, 4), np.nan), backend=backend).mask.any()


@pytest.mark.parametrize('backend', BACKENDS)
def test_diagram_gradient_goes_to_the_pixels_of_the_pairs(backend: str) -> None:
    prob = jnp.asarray(smooth((2, 16, 18)))

    def total_persistence(x: jax.Array) -> jax.Array:
        diagram, _ = persistence_diagram(x, backend=backend)
        return jnp.sum(diagram[..., 0] - diagram[..., 1])

    gradient = np.asarray(jax.jit(jax.grad(total_persistence))(prob))
    pairs = persistence_pairs(prob, backend=backend)
    expected = np.zeros(prob.shape)
    for i in range(2):
        mask = np.asarray(pairs.mask[i])
        np.add.at(expected[i], tuple(np.asarray(pairs.birth[i])[mask].T), 1)
        np.add.at(expected[i], tuple(np.asarray(pairs.death[i])[mask].T), -1)
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.slow
@pytest.mark.parametrize('backend', BACKENDS)
def test_transformations_change_nothing(backend: str) -> None:
    prob = jnp.asarray(smooth((4, 3, 17, 19)))
    find = functools.partial(persistence_pairs, backend=backend, max_pairs=40)
    expected = find(prob)
    devices = jax.local_devices()[: 2 if jax.local_device_count() > 1 else 1]
    n = len(devices)
    mesh = Mesh(np.array(devices), ('d',))
    spec = PartitionSpec('d')

    def in_scan(x: jax.Array) -> Any:
        return jax.lax.scan(lambda carry, image: (carry, find(image)), 0, x)[1]

    sharded = jax.shard_map(find, mesh=mesh, in_specs=spec, out_specs=spec)
    results = [
        jax.jit(jax.vmap(jax.vmap(find), in_axes=1, out_axes=1))(prob),
        jax.jit(in_scan)(prob),
        jax.jit(sharded)(prob),
    ]
    if backend == 'gudhi':
        mapped = jax.pmap(find, devices=devices)(prob.reshape(n, 4 // n, *prob.shape[1:]))
        results += [jax.jit(find)(prob), jax.tree.map(lambda x: x.reshape(4, *x.shape[2:]), mapped)]
    for result in results:
        assert_same(result, expected)


@pytest.mark.slow
@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('shape', [(0, 5, 6), (2, 1, 3, 5, 6), (1, 1), (1, 9), (9, 1), (2, 2)])
def test_shapes(backend: str, shape: tuple[int, ...]) -> None:
    prob = np.random.default_rng(0).random(shape, np.float32)
    pairs = persistence_pairs(prob, backend=backend, max_pairs=7)
    assert pairs.birth.shape == pairs.death.shape == (*shape[:-2], 7, 2)
    assert pairs.mask.shape == (*shape[:-2], 7)
    assert pairs.dropped.shape == shape[:-2]


def test_a_backend_is_named_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, 'mine', xla_backend)
    prob = smooth(LARGER)
    assert_same(persistence_pairs(prob, backend='mine'), persistence_pairs(prob))
    np.testing.assert_array_equal(critical_points(prob, backend='mine'), critical_points(prob))
    with pytest.raises(ValueError, match="'mine'.*'yours'"):
        critical_points(prob, backend='yours')


@pytest.mark.parametrize(
    ('prob', 'options', 'message'),
    [
        (np.zeros(3, np.float32), {}, r'\(3,\)'),
        (np.zeros((4, 0), np.float32), {}, r'\(4, 0\)'),
        (np.zeros((4, 4), np.uint8), {}, 'uint8'),
        (np.zeros((4, 4)), {'dimension': 2}, '2'),
        (np.zeros((4, 4)), {'border': 'closed'}, 'closed'),
        (np.zeros((4, 4)), {'filtration': 'up'}, 'up'),
        (np.zeros((4, 4)), {'backend': 'gpu'}, r"'gudhi', 'xla'\).*'gpu'"),
        (np.zeros((4, 4)), {'max_pairs': 0}, '0'),
    ],
)
def test_wrong_arguments_are_named(prob: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        persistence_pairs(prob, **options)


def test_64_bit_jax_finds_the_same_pairs() -> None:
    image = smooth((40, 33), seed=3)
    expected = persistence_pairs(jnp.asarray(image, jnp.float32), backend='xla')
    with jax.enable_x64(True):
        found = persistence_pairs(jnp.asarray(image, jnp.float32), backend='xla')
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        found = jax.jit(functools.partial(persistence_pairs, backend='xla'))(jnp.asarray(image))
        assert all(np.asarray(x).size for x in jax.tree.leaves(found))
