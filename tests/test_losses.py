"""The losses against optax's, and at the edges of the probabilities."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from taclnet_jax.losses import LOSSES, cross_entropy, cross_entropy_dice

LOGITS = jax.random.normal(jax.random.key(0), (2, 7, 5))
MEMBRANE = (jax.random.uniform(jax.random.key(1), (2, 7, 5)) < 0.3).astype(jnp.uint8)


def test_cross_entropy_and_its_gradient_are_optaxs() -> None:
    def reference(logits: jax.Array) -> jax.Array:
        return optax.sigmoid_binary_cross_entropy(logits, MEMBRANE.astype(jnp.float32)).mean()

    def ours(logits: jax.Array) -> jax.Array:
        return cross_entropy(jax.nn.sigmoid(logits), MEMBRANE)

    np.testing.assert_allclose(ours(LOGITS), reference(LOGITS), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(ours)(LOGITS), jax.grad(reference)(LOGITS), atol=1e-7)


def test_dice_is_optaxs() -> None:
    dice = optax.losses.dice_loss(
        LOGITS.reshape(1, -1, 1), MEMBRANE.reshape(1, -1, 1).astype(jnp.float32)
    )
    prob = jax.nn.sigmoid(LOGITS)
    # optax adds its smoothing of 1 to halves of the sums, hence the tolerance.
    expected = cross_entropy(prob, MEMBRANE) + dice.mean()
    np.testing.assert_allclose(cross_entropy_dice(prob, MEMBRANE), expected, atol=0.02)


@pytest.mark.parametrize('name', LOSSES)
def test_certain_probabilities_have_finite_loss_and_gradient(name: str) -> None:
    prob = jnp.array([0.0, 1.0, 0.0, 1.0])
    membrane = jnp.array([0, 1, 1, 0])
    loss, gradient = jax.value_and_grad(LOSSES[name])(prob, membrane)
    assert np.isfinite(loss) and np.isfinite(gradient).all()
    assert LOSSES[name](prob[:2], membrane[:2]) < 1e-6
