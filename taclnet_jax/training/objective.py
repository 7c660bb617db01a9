"""What a training step minimises, in either phase."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from taclnet_jax.attention import sta_attention
from taclnet_jax.config.settings import AttentionSettings, LossSettings
from taclnet_jax.losses import (
    LOSSES,
    Loss,
    attention_loss,
    membrane_probability,
    perceptual_distance,
    topological_loss,
)
from taclnet_jax.models import Network, iterated_logits
from taclnet_jax.training.vgg19 import load_vgg19

Arrays = dict[str, Any]
Objective = Callable[..., tuple[jax.Array, tuple[jax.Array, jax.Array | None, Any]]]


def create_loss(
    settings: LossSettings,
    attention: AttentionSettings,
    phase_two: bool,
    axis_name: str | None = None,
) -> Loss:
    """The loss of maps by name; the topological and the perceptual loss join it in phase two.

    So TopoLoss' authors train. Mosinska et al. add theirs from the beginning: VGG19 over every
    section of every window takes ten times the network's own time.
    """
    plain = partial(LOSSES[settings.loss], axis_name=axis_name)
    if not phase_two:
        return plain
    topological, perceptual = settings.topological_loss, settings.perceptual_loss
    vgg19 = load_vgg19(perceptual.vgg19) if perceptual.weight else None

    def with_terms(prob: jax.Array, membrane: jax.Array, valid: jax.Array) -> jax.Array:
        loss = plain(prob, membrane, valid)
        if topological.weight:
            loss += topological.weight * topological_loss(
                prob,
                membrane,
                valid,
                patch=topological.patch,
                border=attention.border,
                backend=attention.backend,
                axis_name=axis_name,
            )
        if vgg19 is not None:
            truth = jnp.where(valid != 0, membrane.astype(prob.dtype), prob)
            loss += perceptual.weight * perceptual_distance(vgg19, prob, truth)
        return loss

    return with_terms


def create_objective(
    network: Network,
    phase_two: bool,
    *,
    slices: int,
    attention: AttentionSettings,
    losses: LossSettings,
    axis_name: str | None = None,
) -> Objective:
    """The loss of a batch as a function of the network's parameters.

    Phase one averages the loss over all sections of the windows. Phase two looks at the targets,
    with attention where the run has any. Networks that iterate are trained on all iterations in
    phase one and without attention; attention sees the last.

    Args:
        network: maps windows to logits.
        phase_two: which of the phases.
        slices: sections in a window; the target is the middle one.
        attention: whether, and how.
        losses: what is minimised.
        axis_name: of the devices that have a part of the batch each, where there are several.

    Returns:
        A function of the network's parameters, all its variables, a batch and the keywords
        `history` and `beta` of ITA to (loss, (P `[batch, slices, height, width]`, o of the targets
        or None, the variables that are no parameters, as they are from now on)).
    """
    loss_fn = create_loss(losses, attention, phase_two, axis_name)
    target = slices // 2
    attends = phase_two and attention.kind != 'none'

    def objective(
        params: Any,
        variables: Any,
        batch: Arrays,
        *,
        history: jax.Array | None = None,
        beta: Any = 0.0,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array | None, Any]]:
        logits, weights, statistics = iterated_logits(
            network, {**variables, 'params': params}, batch['image']
        )
        probs = membrane_probability(logits)
        prob, membrane, valid = probs[-1], batch['membrane'], batch['valid']
        if phase_two:
            membrane, valid = membrane[:, target], valid[:, target]
        if attends:
            refined, o, _ = sta_attention(prob, history=history, beta=beta, **attention.options)
            loss = attention_loss(
                attention.form, loss_fn, prob[:, target], refined, o, membrane, valid
            )
            return loss, (prob, o, statistics)
        terms = [
            weight * loss_fn(p[:, target] if phase_two else p, membrane, valid)
            for p, weight in zip(probs, weights, strict=True)
        ]
        return sum(terms, jnp.zeros(())), (prob, None, statistics)

    return objective
