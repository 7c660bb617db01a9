"""What a training step minimises, in either phase."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from taclnet_jax.attention.sta import sta_attention
from taclnet_jax.inference.sections import sta_options
from taclnet_jax.losses.attention import attention_loss
from taclnet_jax.losses.perceptual import perceptual_distance
from taclnet_jax.losses.pixel import LOSSES, Loss
from taclnet_jax.losses.topological import topological_loss
from taclnet_jax.models import iterated_logits
from taclnet_jax.training.vgg19 import load_vgg19

Arrays = dict[str, Any]
Objective = Callable[..., tuple[jax.Array, tuple[jax.Array, jax.Array | None]]]


def create_loss(config: Any, phase_two: bool) -> Loss:
    """`config.loss` of maps; the topological and the perceptual loss join it in phase two.

    TopoLoss' authors train with cross-entropy alone first and end with the sum. Mosinska et al. add
    theirs from the beginning, which takes VGG19 over every section of every window: ten times the
    time of the network itself.
    """
    plain = LOSSES[config.loss]
    topological, perceptual = config.topological_loss, config.perceptual_loss
    if not phase_two or not (topological.weight or perceptual.weight):
        return plain
    vgg19 = load_vgg19(perceptual.vgg19)[0] if perceptual.weight else None

    def with_terms(prob: jax.Array, membrane: jax.Array, valid: jax.Array) -> jax.Array:
        loss = plain(prob, membrane, valid)
        if topological.weight:
            loss += topological.weight * topological_loss(
                prob,
                membrane,
                valid,
                patch=topological.patch,
                border=config.attention.border,
                backend=config.attention.backend,
            )
        if vgg19 is not None:
            truth = jnp.where(valid != 0, membrane.astype(prob.dtype), prob)
            loss += perceptual.weight * perceptual_distance(vgg19, prob, truth)
        return loss

    return with_terms


def create_objective(config: Any, model: nn.Module, phase_two: bool) -> Objective:
    """The loss of a batch as a function of the network's parameters.

    Phase one averages the loss over all sections of the windows. Phase two looks at the targets,
    with attention where the run has any. Networks that iterate are trained on all iterations in
    phase one and without attention; attention sees the last.

    Args:
        config: a ConfigDict.
        model: maps windows to logits.
        phase_two: which of the phases.

    Returns:
        A function of `params`, `batch` and the keywords `history` and `beta` of ITA to
        (loss, (P `[batch, slices, height, width]`, o of the targets or None)).
    """
    loss_fn = create_loss(config, phase_two)
    target = config.slices // 2
    attention = config.attention

    def objective(
        params: Any, batch: Arrays, *, history: jax.Array | None = None, beta: Any = 0.0
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array | None]]:
        logits, weights = iterated_logits(model, params, batch['image'])
        probs = jax.nn.sigmoid(logits)
        prob, membrane, valid = probs[-1], batch['membrane'], batch['valid']
        if phase_two:
            membrane, valid = membrane[:, target], valid[:, target]
        if phase_two and attention.kind != 'none':
            refined, o, _ = sta_attention(prob, history=history, beta=beta, **sta_options(config))
            loss = attention_loss(
                attention.form, loss_fn, prob[:, target], refined, o, membrane, valid
            )
            return loss, (prob, o)
        losses = [
            weight * loss_fn(p[:, target] if phase_two else p, membrane, valid)
            for p, weight in zip(probs, weights, strict=True)
        ]
        return sum(losses, jnp.zeros(())), (prob, None)

    return objective
