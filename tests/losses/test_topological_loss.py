"""TopoLoss against gudhi's general code and explicit matchings, and what descending it does."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys

import gudhi
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import environment
from scipy import ndimage, optimize
from skimage import measure

from taclnet_jax.losses.topological import count_loops, matching_cost, topological_loss
from taclnet_jax.topology import BACKENDS

OPTIONS = ('patch', 'min_persistence', 'border', 'backend')
loss_and_gradient = jax.jit(jax.value_and_grad(topological_loss), static_argnames=OPTIONS)


def smooth(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Images in [0, 1] without ties."""
    field = np.random.default_rng(seed).normal(size=shape)
    field = ndimage.gaussian_filter(field, (0,) * (len(shape) - 2) + (1.2, 1.2))
    ranks = np.argsort(np.argsort(field, axis=None)).reshape(shape)
    return (ranks / ranks.max()).astype(np.float32)


def diagram_by_cubical_complex(prob: np.ndarray) -> np.ndarray:
    """Births and deaths `[N, 2]` of loops in a frame of membrane, most persistent first."""
    cells = np.pad(-prob.astype(np.float64), 1, constant_values=-10)
    complex_ = gudhi.CubicalComplex(top_dimensional_cells=cells)
    complex_.compute_persistence()
    diagram = -complex_.persistence_intervals_in_dimension(1).reshape(-1, 2)
    diagram = diagram[diagram[:, 0] < 10]
    return diagram[np.argsort(diagram[:, 1] - diagram[:, 0])]


def loops_by_labels(membrane: np.ndarray) -> int:
    """Pieces of cell in a frame of membrane; one of them is the frame's own loop."""
    return max(measure.label(membrane == 0, connectivity=1).max() - 1, 0)


def cost_in_float64(prob: np.ndarray, membrane: np.ndarray, threshold: float) -> float:
    diagram = diagram_by_cubical_complex(prob)
    k = loops_by_labels(membrane)
    cost = sum((1 - birth) ** 2 + death**2 for birth, death in diagram[:k])
    for birth, death in diagram[k:]:
        middle = (birth + death) / 2  # the nearest point of the diagonal
        if birth - death > threshold:
            cost += (birth - middle) ** 2 + (death - middle) ** 2
    return cost


# One shape, so that little is compiled. 25 rows need three patches of up to 12: of 9, that overlap
# by one row.
SHAPE, PATCH = (2, 2, 25, 36), 12
ROWS = [slice(0, 9), slice(8, 17), slice(16, 25)]
COLUMNS = [slice(0, 12), slice(12, 24), slice(24, 36)]
PROB = smooth(SHAPE)
MEMBRANE = (smooth(SHAPE, seed=1) > 0.5).astype(np.uint8)
ALL = np.ones(SHAPE, np.uint8)


def some_valid() -> np.ndarray:
    """Not labelled are a band through patches, and a few whole patches."""
    valid = ALL.copy()
    valid[0, 0, 10:15] = 0
    valid[0, 1, :, :24] = 0
    return valid


def patches(image: np.ndarray) -> list[np.ndarray]:
    return [image[i][y, x] for i in np.ndindex(2, 2) for y, x in itertools.product(ROWS, COLUMNS)]


@pytest.mark.slow
@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize(('valid', 'counted'), [(ALL, 36), (some_valid(), 30)], ids=['all', 'some'])
def test_loss_is_the_mean_over_patches_of_the_distances(
    valid: np.ndarray, counted: int, backend: str
) -> None:
    # What is not labelled is membrane to both.
    prob, membrane = np.where(valid, PROB, 1), np.where(valid, MEMBRANE, 1)
    costs = [
        cost_in_float64(p, m, threshold=0.03)
        for p, m, v in zip(*map(patches, (prob, membrane, valid)), strict=True)
        if v.any()
    ]
    assert len(costs) == counted
    assert len({loops_by_labels(m) for m in patches(MEMBRANE)}) > 2
    loss, gradient = loss_and_gradient(PROB, MEMBRANE, valid, patch=PATCH, backend=backend)
    np.testing.assert_allclose(loss, np.mean(costs), rtol=1e-5)
    assert not np.asarray(gradient)[valid == 0].any()


def test_backends_agree_where_values_are_equal() -> None:
    prob = np.round(PROB * 50).astype(np.float32) / 50
    one, *others = (
        loss_and_gradient(prob, MEMBRANE, some_valid(), patch=PATCH, backend=backend)
        for backend in BACKENDS
    )
    for other in others:
        np.testing.assert_allclose(one[0], other[0], rtol=1e-6)
        np.testing.assert_allclose(one[1], other[1], atol=1e-7)


def test_patches_with_nan_cost_nothing() -> None:
    prob, membrane, without = PROB.copy(), MEMBRANE.copy(), ALL.copy()
    # In the corner patch, but for the row that it shares with the next one.
    prob[1, 1, 8, :12] = membrane[1, 1, 8, :12] = 1
    prob[1, 1, 3, 4] = np.nan
    without[1, 1, :9, :12] = 0
    options = dict(patch=PATCH, backend='gudhi')
    loss, gradient = loss_and_gradient(prob, membrane, ALL, **options)
    others, _ = loss_and_gradient(PROB, membrane, without, **options)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(loss * 36, others * 35, rtol=1e-6)


def test_bfloat16() -> None:
    prob = jnp.asarray(PROB, jnp.bfloat16)
    options = dict(patch=PATCH, backend='gudhi')
    loss, gradient = loss_and_gradient(prob, MEMBRANE, ALL, **options)
    expected, _ = loss_and_gradient(np.asarray(prob, np.float32), MEMBRANE, ALL, **options)
    np.testing.assert_allclose(np.float32(loss), expected, rtol=0.02)
    assert gradient.dtype == jnp.bfloat16


@pytest.mark.parametrize('backend', BACKENDS)
def test_true_loops_are_pieces_of_cell_less_one(backend: str) -> None:
    density = np.array([0, 0.2, 0.4, 0.6, 0.8, 1])[:, None, None]
    membrane = np.random.default_rng(0).random((6, 20, 21)) < density
    count = jax.jit(functools.partial(count_loops, backend=backend))(membrane)
    np.testing.assert_array_equal(count, [loops_by_labels(m) for m in membrane])


def assigned(diagram: np.ndarray, k: int, power: int) -> tuple[set[int], float]:
    """Which points an optimal matching puts at (1, 0), and its cost, by the Hungarian method.

    Any point may go to its nearest point of the diagonal, the k true ones too.
    """
    n = len(diagram)
    birth, death = diagram.T
    costs = np.zeros((n + k, k + n))
    costs[:n, :k] = (abs(1 - birth) ** power + abs(death) ** power)[:, None]
    costs[:n, k:] = 2 * ((birth - death) / 2)[:, None] ** power
    costs[n:, :k] = 2 * 0.5**power
    rows, columns = optimize.linear_sum_assignment(costs)
    matched = {int(r) for r, c in zip(rows, columns, strict=True) if r < n and c < k}
    return matched, costs[rows, columns].sum()


@pytest.mark.parametrize('seed', range(5))
def test_matching_by_persistence_is_optimal_in_the_sum_of_differences(seed: int) -> None:
    diagram = diagram_by_cubical_complex(smooth((14, 15), seed))
    for k in (0, 1, 3, len(diagram), len(diagram) + 2):
        matched, _ = assigned(diagram, k, power=1)
        assert matched == set(range(min(k, len(diagram))))


def test_matching_by_persistence_need_not_be_optimal_in_squares() -> None:
    # As the documentation says: more persistent, but farther from (1, 0) in squares.
    diagram = np.array([[1.0, 0.6], [0.65, 0.35]])
    matched, cost = assigned(diagram, 1, power=2)
    assert matched == {1}
    ours = matching_cost(jnp.asarray(diagram), jnp.ones(2, bool), jnp.array(1))
    assert cost < ours < 1.5 * cost


def test_points_cost_what_the_definition_says() -> None:
    diagram = jnp.array([[0.9, 0.1], [0.8, 0.4], [0.5, 0.48], [0.3, 0.3]])
    mask = jnp.array([True, True, True, False])
    cost = functools.partial(matching_cost, diagram, mask)
    np.testing.assert_allclose(cost(1), 0.02 + 0.08 + 0.0002, rtol=1e-5)
    np.testing.assert_allclose(cost(1, min_persistence=0.03), 0.02 + 0.08, rtol=1e-5)
    np.testing.assert_allclose(cost(0), 0.32 + 0.08 + 0.0002, rtol=1e-5)
    # More than the diagram has: the missing ones cost nothing.
    np.testing.assert_allclose(cost(7), 0.02 + 0.2 + 0.25 + 0.48**2, rtol=1e-5)
    many = matching_cost(jnp.stack([diagram] * 2), jnp.stack([mask] * 2), jnp.array([1, 7]))
    np.testing.assert_allclose(many, [cost(1), cost(7)], rtol=1e-6)


def test_gradient_is_that_of_finite_differences() -> None:
    # Steps are less than half of what keeps values apart, so that all pairs stay as they are.
    prob, step = smooth((14, 13), seed=2), 1e-3
    assert np.diff(np.sort(prob.ravel())).min() > 2 * step
    membrane, valid = smooth((14, 13), seed=3) > 0.6, np.ones((14, 13))
    loss = functools.partial(loss_and_gradient, patch=9, min_persistence=0)
    gradient = np.asarray(loss(prob, membrane, valid)[1])
    for pixel in np.ndindex(prob.shape):
        change = np.zeros_like(prob)
        change[pixel] = step
        up, down = (loss(prob + x, membrane, valid)[0] for x in (change, -change))
        np.testing.assert_allclose(gradient[pixel], (up - down) / (2 * step), atol=2e-3)
    assert 10 < np.count_nonzero(gradient) < prob.size


def test_edges_of_what_can_come() -> None:
    rings = np.zeros((12, 24), np.float32)
    rings[2:10, 2:10] = rings[2:10, 14:22] = 1
    rings[4:8, 4:8] = rings[4:8, 16:20] = 0
    nothing, valid = np.zeros_like(rings), np.ones(rings.shape)

    def loss(prob: np.ndarray, membrane: np.ndarray) -> float:
        return float(loss_and_gradient(prob, membrane, valid)[0])

    assert loss(rings, rings) == 0
    # No loops in the truth: all of P's are superfluous. None in P: there is nothing to move.
    assert loss(rings, nothing) == 2 * 0.5
    assert loss(rings, nothing + 1) == 2 * 0.5
    for constant in (0.0, 0.5, 1.0):
        assert loss(nothing + np.float32(constant), rings) == 0
    # One row, one pixel.
    for prob in (rings[2:3], rings[:1, :1]):
        assert loss_and_gradient(prob, prob, np.ones(prob.shape))[0] == 0


def descend(prob: np.ndarray, membrane: np.ndarray) -> np.ndarray:
    """P after the topological loss alone has been descended in it."""
    for _ in range(200):
        _, gradient = loss_and_gradient(prob, membrane, np.ones(prob.shape))
        prob = np.clip(prob - 0.2 * np.asarray(gradient), 0, 1)
    return prob


def ring(gap: float) -> np.ndarray:
    """A cell in a ring of membrane, of which one side is as weak as `gap`; some noise."""
    prob = np.full((15, 15), 0.1)
    prob[3:12, 3:12] = 0.9
    prob[5:10, 5:10] = 0.05
    prob[6:9, 10:12] = gap
    noise = np.random.default_rng(0).uniform(-0.04, 0.04, prob.shape)
    return (prob + noise).astype(np.float32)


def test_descent_closes_a_broken_loop() -> None:
    prob, membrane = ring(gap=0.2), ring(gap=0.9) > 0.5
    assert loops_by_labels(prob > 0.5) == 0
    closed = descend(prob, membrane)
    assert loops_by_labels(closed > 0.5) == 1
    birth, death = diagram_by_cubical_complex(closed)[0]
    assert birth > 0.95 and death < 0.05
    # It took one path through the gap, not all of it.
    assert 1 <= (closed[6:9, 10:12] > 0.5).sum() < 6


def test_descent_removes_a_superfluous_loop() -> None:
    prob = ring(gap=0.6)
    assert loops_by_labels(prob > 0.5) == 1
    opened = descend(prob, np.zeros(prob.shape, bool))
    assert loops_by_labels(opened > 0.5) == 0
    birth, death = diagram_by_cubical_complex(opened).T
    assert (birth - death).max() < 0.04


@pytest.mark.parametrize(
    ('options', 'message'),
    [({'patch': 0}, '0'), ({'backend': 'gpu'}, 'gpu'), ({'border': 'closed'}, 'closed')],
)
def test_wrong_options_are_named(options: dict, message: str) -> None:
    image = jnp.zeros((4, 4))
    with pytest.raises(ValueError, match=message):
        topological_loss(image, image, image, **options)


ON_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from taclnet_jax.losses import cross_entropy, topological_loss
assert jax.local_device_count() == 2
rng = np.random.default_rng(0)
# 128 KiB for each device, at which callbacks hang if they can.
prob = rng.random((2, 2, 128, 128), np.float32)
membrane = rng.random(prob.shape) < 0.5
valid = np.ones(prob.shape, np.uint8)
found = []
for backend in ('gudhi', 'xla'):
    def total(prob, membrane, valid):
        topological = topological_loss(prob, membrane, valid, backend=backend)
        return cross_entropy(prob, membrane, valid) + 0.01 * topological
    loss = jax.value_and_grad(total)
    def step(prob, membrane, valid):
        # Work on the same threads as the callbacks.
        value, gradient = loss(0.5 * prob + 0.25 * jnp.cos(prob), membrane, valid)
        return jax.lax.pmean(value, 'batch'), gradient
    mapped = jax.pmap(step, axis_name='batch')
    for _ in range(5 if backend == 'gudhi' else 1):
        value, gradient = mapped(prob, membrane, valid)
    found.append((value, gradient))
(value, gradient), (same, too) = found
np.testing.assert_allclose(value, same, rtol=1e-6)
np.testing.assert_allclose(gradient, too, atol=1e-7)
print('finished')
"""


def test_two_devices_do_not_hang() -> None:
    done = subprocess.run(
        [sys.executable, '-c', ON_DEVICES],
        env=environment(2),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == 'finished\n'
