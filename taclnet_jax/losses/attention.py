"""How attention enters the loss."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from taclnet_jax.losses.pixel import EPSILON, Loss

# From the loss of a map, whose pixels may have weights, and P, P_hat and o to a scalar.
Form = Callable[[Callable[..., jax.Array], jax.Array, jax.Array, jax.Array], jax.Array]


def attention_loss(
    form: str,
    loss_fn: Loss,
    prob: jax.Array,
    refined: jax.Array,
    attention: jax.Array,
    membrane: jax.Array,
    valid: jax.Array,
) -> jax.Array:
    """The loss of a window's target with attention, in one of the forms of training.

    Args:
        form: 'refined': the loss of P_hat, as the poster has it.
            'both': the mean of the losses of P and P_hat: P has to be right without attention too.
            'weighted': the loss of P, with pixels weighted by 1 + o: attention says where it
            matters, not what is there.
            'straight_through': the loss of P_hat, with the derivative of `straight_through`.
        loss_fn: one of `LOSSES`; for 'weighted' one that takes weights for `valid`.
        prob, refined: P and P_hat, `[..., height, width]`.
        attention: o in [0, 1], likewise; the weights are constants to the gradient.
        membrane, valid: 1 where there is membrane, or a label, 0 elsewhere, likewise.

    Raises:
        ValueError: there is no such form.
    """
    if form not in ATTENTION_FORMS:
        raise ValueError(f'form must be one of {", ".join(ATTENTION_FORMS)}, got {form!r}.')

    def loss(p: jax.Array, weights: jax.Array | int = 1) -> jax.Array:
        return loss_fn(p, membrane, valid * weights)

    return ATTENTION_FORMS[form](loss, prob, refined, attention)


def straight_through(prob: jax.Array, refined: jax.Array) -> jax.Array:
    """P_hat with another derivative: its logit moves as P's does.

    P_hat = clip(alpha o + P, 0, 1) has no derivative where it is 1, however wrong that is. Where it
    is wrong and a little below 1, that of the cross-entropy is huge: of a network trained on
    ISBI12, at alpha 1, ten of 657 000 pixels held 80 % of the squared gradient. Here it is, by the
    logit of P, P_hat - truth everywhere, as it is P - truth without attention.

    Args:
        prob: P in [0, 1].
        refined: P_hat, the same shape; a constant to the gradient.
    """
    logit = _logit(prob)
    return jax.nn.sigmoid(logit + jax.lax.stop_gradient(_logit(refined) - logit))


def _logit(prob: jax.Array) -> jax.Array:
    # Between cross_entropy's limit and that of `membrane_probability`: neither is flat here.
    prob = jnp.clip(prob, 5 * EPSILON, 1 - 5 * EPSILON)
    return jnp.log(prob) - jnp.log1p(-prob)


ATTENTION_FORMS: dict[str, Form] = {
    'refined': lambda loss, p, p_hat, o: loss(p_hat),
    'both': lambda loss, p, p_hat, o: (loss(p) + loss(p_hat)) / 2,
    'weighted': lambda loss, p, p_hat, o: loss(p, weights=1 + jax.lax.stop_gradient(o)),
    'straight_through': lambda loss, p, p_hat, o: loss(straight_through(p, p_hat)),
}
