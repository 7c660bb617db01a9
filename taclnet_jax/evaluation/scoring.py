"""Scores of one section, and of the validation sections while a network trains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from taclnet_jax import metrics
from taclnet_jax.config.settings import EvaluateSettings
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import Stretches, targets_of
from taclnet_jax.errors import InputError, doubt
from taclnet_jax.evaluation.report import attention_picture
from taclnet_jax.evaluation.thresholds import choose_threshold
from taclnet_jax.inference import Cut, Inference, predict_sections
from taclnet_jax.losses import Loss
from taclnet_jax.volumes.sections import listed


def scored_targets(
    volume: Volume, stretches: Stretches, limit: int, what: str
) -> list[tuple[int, range]]:
    """The targets of `targets_of` that have cells to score; those without are said.

    Raises:
        InputError: none has.
    """
    targets = targets_of(stretches, limit, volume.labelled)
    scored = [(z, stretch) for z, stretch in targets if volume.has_cells(z)]
    empty = sorted({z for z, _ in targets} - {z for z, _ in scored})
    if stretches and not scored:
        raise _nothing_to_score(targets, what)
    if empty:
        doubt(
            f'No labelled cell has an interior in {len(empty)} of {len(targets)} sections '
            f'({what}), which are left out of all scores: {listed(empty, 10)} (counted from 0).'
        )
    return scored


def check_scored(volume: Volume, stretches: Stretches, limit: int, what: str) -> None:
    """Raises what `scored_targets` would, without a look at more than it takes."""
    targets = targets_of(stretches, limit, volume.labelled)
    if stretches and not any(volume.has_cells(z) for z, _ in targets):
        raise _nothing_to_score(targets, what)


def _nothing_to_score(targets: Sequence[tuple[int, range]], what: str) -> InputError:
    where = f'the sections ({what}), of which none is labelled'
    if targets:
        first, last = targets[0][0], targets[-1][0]
        where = f'{len(targets)} sections from {first} to {last} (counted from 0; {what})'
    return InputError(
        f'Expected labelled cells with an interior in one of {where}, found none. Label one, draw '
        'thinner membranes with config.membrane_dilation_px, or choose another '
        'config.fold, or other sections with config.sections; if few are labelled, name them '
        'with config.custom.boxes.'
    )


def score(
    settings: EvaluateSettings,
    volume: Volume,
    section: int,
    prob: np.ndarray,
    cut: Cut,
    extended: bool = False,
) -> dict[str, float]:
    """The main scores of one section whose map was cut so, or all of them."""
    membrane, ids, ignore = volume.labels(section)
    return metrics.section_scores(
        cut.closed(prob, ignore),
        membrane,
        ids,
        ignore=ignore,
        threshold=cut.threshold,
        betti_patch=settings.betti_patch,
        betti_patches=settings.betti_patches,
        seed=settings.betti_seed,
        extended=extended,
        resolution_nm=volume.resolution_nm,
    )


@dataclass(frozen=True)
class Validation:
    """Scores a network on the validation sections.

    At the threshold that evaluation takes if it is fixed, else at the best one for these sections.
    """

    settings: EvaluateSettings
    infer: Inference  # of the network
    volume: Volume  # labelled
    stretches: Stretches  # of its validation sections
    loss_fn: Loss  # of P and the membrane, reported beside the scores
    refined: bool  # whether P_hat is scored, as where a run trains attention, or P

    def __call__(self, variables: Any) -> tuple[dict[str, float], np.ndarray]:
        """Scores by name, and the poster's Fig. 5 of the first section, `[height, width, 3]`."""
        volume = self.volume
        limit = self.settings.threshold_sections
        targets = scored_targets(volume, self.stretches, limit, 'validation')
        predictions = list(predict_sections(self.infer, variables, volume.image, targets))
        probs = {p.section: p.refined if self.refined else p.prob for p in predictions}
        threshold = self.settings.threshold
        if self.settings.threshold_from != 'fixed':
            threshold = choose_threshold(volume, probs)
        sections = []
        for z, prob in probs.items():
            membrane, _, ignored = volume.labels(z)
            valid = np.ones(prob.shape, bool) if ignored is None else ~ignored
            loss = self.loss_fn(*map(jnp.asarray, (prob, membrane, valid)))
            scores = score(self.settings, volume, z, prob, Cut(threshold))
            sections.append(scores | {'loss': float(loss), 'threshold': threshold})
        means = {key: mean for key, (mean, _) in metrics.summarise(sections).items()}
        return means, attention_picture(volume, predictions[0], None)
