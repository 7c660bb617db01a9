"""Scores of P and P_hat of a trained network, with pictures. No label steers the attention."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

import taclnet_jax
from taclnet_jax import metrics
from taclnet_jax.config import check_config
from taclnet_jax.data import load_volume
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import Runs, split_sections, targets_of
from taclnet_jax.evaluation.report import attention_picture, format_table, hardware, write_pictures
from taclnet_jax.evaluation.thresholds import choose_cuts, choose_threshold, ignored
from taclnet_jax.files import write_text
from taclnet_jax.inference.cut import Cut, fixed_cuts, map_of
from taclnet_jax.inference.sections import SectionPrediction, create_inference, predict_sections
from taclnet_jax.losses.pixel import LOSSES
from taclnet_jax.models import create_model
from taclnet_jax.progress import with_progress
from taclnet_jax.training.checkpoints import best_params


def evaluate_run(config: Any, workdir: Path) -> dict[str, Any]:
    """Evaluates the best checkpoint of a run; see `evaluate`."""
    check_config(config)
    volume = load_volume(config)
    step, params = best_params(workdir, config)
    return evaluate(config, create_model(config), params, step, volume, workdir)


def evaluate(
    config: Any, model: nn.Module, params: Any, step: int, volume: Volume, workdir: Path
) -> dict[str, Any]:
    """Scores the test sections, prints the table, writes results.json and pictures.

    Args:
        config: of the run.
        model: of the run.
        params: its parameters.
        step: the step they are from.
        volume: labelled.
        workdir: gets results.json and pictures/.

    Returns:
        What results.json holds: for each of `MAPS` its `Cut`, each section's scores, and their
        mean and standard deviation over sections.
    """
    train_runs, validation_runs, test_runs = split_sections(config, volume.parts)
    infer = create_inference(config, model, config.evaluate.views)

    def predictions(runs: Runs, limit: int, what: str) -> Iterable[SectionPrediction]:
        targets = targets_of(runs, limit)
        predicted = predict_sections(infer, params, volume.image, targets)
        return with_progress(predicted, len(targets), what, 'section')

    cuts = fixed_cuts(config)
    if config.evaluate.threshold_from != 'fixed':
        known = {'training': (*train_runs, *validation_runs), 'validation': validation_runs}
        runs = known[config.evaluate.threshold_from]
        tried = predictions(runs, config.evaluate.threshold_sections, 'threshold')
        cuts = choose_cuts(volume, list(tried))
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in cuts}
    pictures: list[str] = []
    (workdir / 'pictures').mkdir(exist_ok=True)
    test = predictions(test_runs, config.evaluate.test_sections, 'test sections')
    tested: list[int] = []
    for i, prediction in enumerate(test):
        z = prediction.section
        tested.append(z)
        for name, cut in cuts.items():
            prob = map_of(prediction, name)
            scores[name].append(score(config, volume, z, prob, cut, extended=True))
        if i % config.evaluate.picture_every == 0:
            pictures += write_pictures(volume, prediction, cuts, workdir / 'pictures')

    results: dict[str, Any] = {
        'dataset': config.dataset,
        'fold': config.fold,
        'sections': tested,
        'step': step,
        'hardware': hardware(),
        'version': taclnet_jax.__version__,
        'config': config.to_dict(),
    }
    for name, sections in scores.items():
        summary = metrics.summarise(sections)
        results[name] = {
            **cuts[name]._asdict(),
            'mean': {key: mean for key, (mean, _) in summary.items()},
            'std': {key: std for key, (_, std) in summary.items()},
            'per_section': sections,
        }
    write_text(workdir / 'results.json', json.dumps(results, indent=2) + '\n')
    print(format_table(results))
    print(f'Results: {workdir / "results.json"}')
    print('Pictures:', *pictures, sep='\n  ')
    return results


def validate(
    config: Any, infer: Any, params: Any, volume: Volume, runs: Runs
) -> tuple[dict[str, float], np.ndarray]:
    """Scores of validation sections and the poster's Fig. 5 of the first one.

    P_hat is scored where the run trains attention, P elsewhere; at the threshold that evaluation
    takes if it is fixed, at the best one for these sections otherwise.

    Returns:
        ({'voi': ..., ...}, picture `[height, width, 3]` uint8).
    """
    assert volume.membrane is not None
    targets = targets_of(runs, config.evaluate.threshold_sections)
    predictions = list(predict_sections(infer, params, volume.image, targets))
    probs = {
        p.section: p.prob if config.attention.kind == 'none' else p.refined for p in predictions
    }
    threshold = config.evaluate.threshold
    if config.evaluate.threshold_from != 'fixed':
        threshold = choose_threshold(volume, probs)
    sections = []
    for z, prob in probs.items():
        valid = np.ones(prob.shape, bool) if volume.ignore is None else ~volume.ignore[z]
        loss = LOSSES[config.loss](*map(jax.numpy.asarray, (prob, volume.membrane[z], valid)))
        scores = score(config, volume, z, prob, Cut(threshold))
        sections.append(scores | {'loss': float(loss), 'threshold': threshold})
    means = {key: mean for key, (mean, _) in metrics.summarise(sections).items()}
    return means, attention_picture(volume, predictions[0], None)


def score(
    config: Any,
    volume: Volume,
    section: int,
    prob: np.ndarray,
    cut: Cut,
    extended: bool = False,
) -> dict[str, float]:
    """The main scores of one section whose map was cut so, or all of them."""
    assert volume.membrane is not None
    ignore = ignored(volume, section)
    return metrics.section_scores(
        cut.closed(prob, ignore),
        volume.membrane[section],
        None if volume.ids is None else volume.ids[section],
        ignore=ignore,
        threshold=cut.threshold,
        betti_patch=config.evaluate.betti_patch,
        betti_patches=config.evaluate.betti_patches,
        seed=config.evaluate.betti_seed,
        extended=extended,
        resolution_nm=volume.resolution_nm,
    )
