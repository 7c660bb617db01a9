"""The symmetries form the dihedral group of the square."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taclnet_jax.symmetry import inverse, symmetry

IMAGE = np.arange(2 * 9.0).reshape(2, 3, 3)


def test_all_eight_differ_and_are_numpys_rotations_and_flips() -> None:
    got = {symmetry(IMAGE, k).tobytes() for k in range(8)}
    flipped = np.flip(IMAGE, -1)
    expected = {
        np.rot90(x, turns, (-2, -1)).tobytes() for x in (IMAGE, flipped) for turns in range(4)
    }
    assert len(got) == 8 and got == expected


@pytest.mark.parametrize('k', range(8))
def test_inverse_undoes_traced_and_not(k: int) -> None:
    np.testing.assert_array_equal(symmetry(symmetry(IMAGE, k), inverse(k)), IMAGE)
    traced = jax.jit(lambda x, k: symmetry(symmetry(x, k), inverse(k)))
    np.testing.assert_array_equal(traced(IMAGE, k), IMAGE)
    np.testing.assert_array_equal(jax.jit(symmetry)(jnp.asarray(IMAGE), k), symmetry(IMAGE, k))


def test_flips_keep_oblong_images() -> None:
    image = np.arange(6).reshape(2, 3)
    assert symmetry(image, 3).tolist() == [[5, 4, 3], [2, 1, 0]]
    assert symmetry(image, 4).shape == (3, 2)


def test_a_rectangle_has_the_four_that_do_not_transpose() -> None:
    rectangle = IMAGE[:, :-1]
    for k in range(4):
        traced = jax.jit(symmetry)(rectangle, k)
        np.testing.assert_array_equal(traced, symmetry(rectangle, k))
        np.testing.assert_array_equal(jax.jit(symmetry)(traced, inverse(k)), rectangle)
