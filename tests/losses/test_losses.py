"""The losses against float64 and optax, at the edges of P, and how attention enters them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from taclnet_jax.config.settings import AttentionSettings, LossSettings, TopologicalLossSettings
from taclnet_jax.losses.attention import ATTENTION_FORMS, attention_loss, straight_through
from taclnet_jax.losses.pixel import LOSSES, cross_entropy, cross_entropy_dice, membrane_probability
from taclnet_jax.losses.topological import topological_loss
from taclnet_jax.training.objective import create_loss

LOGITS = jax.random.normal(jax.random.key(0), (2, 17, 15))
PROB = jax.nn.sigmoid(LOGITS)
MEMBRANE = (jax.random.uniform(jax.random.key(1), LOGITS.shape) < 0.3).astype(jnp.uint8)
VALID = (jax.random.uniform(jax.random.key(2), LOGITS.shape) < 0.8).astype(jnp.uint8)
ALL = jnp.ones_like(VALID)

value_and_grad = {name: jax.jit(jax.value_and_grad(loss)) for name, loss in LOSSES.items()}


def in_float64(prob: jax.Array, membrane: jax.Array, weights: jax.Array) -> tuple[float, float]:
    """Cross-entropy and Dice loss, pixel by pixel."""
    nats = overlap = total = weight = 0.0
    for p, m, w in zip(*(np.ravel(np.float64(x)) for x in (prob, membrane, weights)), strict=True):
        nats -= w * np.log(p if m else 1 - p)
        overlap += w * p * m
        total += w * (p + m)
        weight += w
    return nats / weight, 1 - (2 * overlap + 1) / (total + 1)


@pytest.mark.parametrize('valid', [ALL, VALID, VALID.astype(bool), 1.0 + VALID])
def test_losses_are_means_over_what_is_labelled(valid: jax.Array) -> None:
    entropy, dice = in_float64(PROB, MEMBRANE, valid)
    np.testing.assert_allclose(cross_entropy(PROB, MEMBRANE, valid), entropy, rtol=1e-6)
    np.testing.assert_allclose(cross_entropy_dice(PROB, MEMBRANE, valid), entropy + dice, rtol=1e-6)


def test_cross_entropy_and_its_gradient_are_optaxs() -> None:
    def reference(logits: jax.Array) -> jax.Array:
        nats = optax.sigmoid_binary_cross_entropy(logits, MEMBRANE.astype(jnp.float32))
        return jnp.mean(nats, where=VALID != 0)

    def ours(logits: jax.Array) -> jax.Array:
        return cross_entropy(jax.nn.sigmoid(logits), MEMBRANE, VALID)

    np.testing.assert_allclose(ours(LOGITS), reference(LOGITS), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(ours)(LOGITS), jax.grad(reference)(LOGITS), atol=1e-7)


def test_logits_of_any_size_have_the_gradient_of_the_cross_entropy() -> None:
    logits = 100 * LOGITS
    assert (jnp.abs(logits) > 88).sum() > 100  # exp overflows in float32

    def reference(logits: jax.Array) -> jax.Array:
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, MEMBRANE.astype(jnp.float32)))

    def loss(logits: jax.Array, form: str | None = None) -> jax.Array:
        prob = membrane_probability(logits)
        if form is None:
            return cross_entropy(prob, MEMBRANE, ALL)
        # Without attention P_hat is P.
        return attention_loss(form, cross_entropy, prob, prob, 0 * prob, MEMBRANE, ALL)

    expected = jax.grad(reference)(logits)
    for form in (None, *ATTENTION_FORMS):
        gradient = jax.jit(jax.grad(loss), static_argnums=1)(logits, form)
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=2e-6 / logits.size)


def test_membrane_probability_is_the_sigmoid() -> None:
    np.testing.assert_array_equal(membrane_probability(LOGITS), PROB)
    far = membrane_probability(jnp.array([-1e4, -20, 20, 1e4]))
    np.testing.assert_allclose(far, [1e-6, 1e-6, 1 - 1e-6, 1 - 1e-6], rtol=1e-7)


@pytest.mark.parametrize('name', LOSSES)
def test_what_is_not_labelled_changes_nothing(name: str) -> None:
    loss, gradient = value_and_grad[name](PROB, MEMBRANE, VALID)
    other, same = value_and_grad[name](
        jnp.where(VALID, PROB, 0.5), jnp.where(VALID, MEMBRANE, 1 - MEMBRANE), VALID
    )
    np.testing.assert_allclose(loss, other, rtol=1e-6)
    np.testing.assert_allclose(gradient, same, atol=1e-7)
    assert not np.asarray(gradient)[VALID == 0].any()


@pytest.mark.parametrize('name', LOSSES)
def test_without_any_label_the_loss_is_zero(name: str) -> None:
    loss, gradient = value_and_grad[name](PROB, MEMBRANE, 0 * VALID)
    assert loss == 0
    assert not np.asarray(gradient).any()


@pytest.mark.parametrize('name', LOSSES)
def test_certain_probabilities_have_finite_loss_and_gradient(name: str) -> None:
    loss, gradient = value_and_grad[name](jnp.round(PROB), MEMBRANE, ALL)
    assert np.isfinite(loss) and np.isfinite(gradient).all()
    perfect, _ = value_and_grad[name](MEMBRANE.astype(jnp.float32), MEMBRANE, ALL)
    assert 0 <= perfect < 1e-6 < loss


ATTENTION = jax.random.uniform(jax.random.key(3), LOGITS.shape) ** 4


def attend(logits: jax.Array, attention: jax.Array = ATTENTION) -> tuple[jax.Array, ...]:
    """P, P_hat and o, which here is the same for any P."""
    prob = jax.nn.sigmoid(logits)
    return prob, jnp.clip(attention + prob, 0, 1), attention


def test_forms_are_what_they_say() -> None:
    prob, refined, attention = attend(LOGITS)
    loss = {
        form: attention_loss(form, cross_entropy, prob, refined, attention, MEMBRANE, VALID)
        for form in ATTENTION_FORMS
    }
    of_p, _ = in_float64(prob, MEMBRANE, VALID)
    of_p_hat, _ = in_float64(jnp.clip(refined, 1e-7, 1 - 1e-7), MEMBRANE, VALID)
    weighted, _ = in_float64(prob, MEMBRANE, VALID * (1 + attention))
    np.testing.assert_allclose(loss['refined'], of_p_hat, rtol=1e-5)
    np.testing.assert_allclose(loss['both'], (of_p + of_p_hat) / 2, rtol=1e-5)
    np.testing.assert_allclose(loss['weighted'], weighted, rtol=1e-5)
    of_p_hat, _ = in_float64(jnp.clip(refined, 5e-7, 1 - 5e-7), MEMBRANE, VALID)
    np.testing.assert_allclose(loss['straight_through'], of_p_hat, rtol=1e-2)


@pytest.mark.parametrize('form', ATTENTION_FORMS)
def test_forms_have_gradients(form: str) -> None:
    for loss_fn in (cross_entropy, cross_entropy_dice):
        gradient = jax.grad(
            lambda logits, loss_fn=loss_fn: attention_loss(
                form, loss_fn, *attend(logits), MEMBRANE, VALID
            )
        )(LOGITS)
        assert np.isfinite(gradient).all() and np.asarray(gradient).any()


def test_weights_are_constants_to_the_gradient() -> None:
    def loss(logits: jax.Array, attention: jax.Array | None) -> jax.Array:
        attention = jax.nn.sigmoid(logits) if attention is None else attention
        return attention_loss(
            'weighted', cross_entropy, *attend(logits, attention), MEMBRANE, VALID
        )

    np.testing.assert_array_equal(jax.grad(loss)(LOGITS, PROB), jax.grad(loss)(LOGITS, None))


def test_straight_through_is_p_hat_with_the_derivative_of_a_logistic() -> None:
    prob, refined, attention = attend(LOGITS)
    assert (MEMBRANE[refined == 1] == 0).sum() > 3
    np.testing.assert_allclose(straight_through(prob, refined), refined, atol=2e-6)

    def loss(logits: jax.Array, form: str) -> jax.Array:
        return attention_loss(form, cross_entropy, *attend(logits), MEMBRANE, ALL)

    expected = (refined - MEMBRANE) / MEMBRANE.size
    gradient = jax.grad(loss)(LOGITS, 'straight_through')
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-8)
    # The plain derivative knows nothing of what is wrong and saturated.
    assert not np.asarray(jax.grad(loss)(LOGITS, 'refined'))[refined == 1].any()


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(LOSSES))
def test_the_topological_loss_joins_the_configured_one_in_phase_two(name: str) -> None:
    losses = LossSettings(loss=name, topological_loss=TopologicalLossSettings(weight=0.5))
    attention = AttentionSettings()
    alone = LOSSES[name](PROB, MEMBRANE, VALID)
    loops = topological_loss(PROB, MEMBRANE, VALID)
    assert create_loss(losses, attention, phase_two=False)(PROB, MEMBRANE, VALID) == alone
    both = create_loss(losses, attention, phase_two=True)(PROB, MEMBRANE, VALID)
    assert loops > 0
    np.testing.assert_allclose(both, alone + 0.5 * loops, rtol=1e-6)


def test_a_form_is_named_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuple(ATTENTION_FORMS) == ('refined', 'both', 'weighted', 'straight_through')
    with pytest.raises(ValueError, match='straight_through, got .sharp'):
        attention_loss('sharp', cross_entropy, *attend(LOGITS), MEMBRANE, VALID)
    monkeypatch.setitem(ATTENTION_FORMS, 'sharp', lambda loss, p, p_hat, o: loss(p))
    loss = attention_loss('sharp', cross_entropy, *attend(LOGITS), MEMBRANE, VALID)
    assert loss == cross_entropy(PROB, MEMBRANE, VALID)


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize('name', LOSSES)
def test_probabilities_of_few_bits_have_the_loss_of_float32(name: str, dtype: Any) -> None:
    prob = jnp.where(jnp.arange(15) % 5 == 0, jnp.float32(MEMBRANE), PROB).astype(dtype)
    expected, there = value_and_grad[name](prob.astype(jnp.float32), MEMBRANE, VALID)
    found, gradient = value_and_grad[name](prob, MEMBRANE, VALID)
    np.testing.assert_allclose(found, expected, rtol=0.02)
    assert gradient.dtype == dtype and np.isfinite(np.float32(gradient)).all()
    np.testing.assert_allclose(np.float32(gradient), there, rtol=0.1, atol=0.01)


def test_weights_may_sum_to_less_than_1() -> None:
    prob, membrane = jnp.array([0.5, 0.25]), jnp.array([1, 0])
    expected = (0.1 * np.log(2) - 0.3 * np.log(0.75)) / 0.4
    found = cross_entropy(prob, membrane, jnp.array([0.1, 0.3]))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
