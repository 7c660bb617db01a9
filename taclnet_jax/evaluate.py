"""Scores of P and P_hat of a trained network, with pictures. No label steers the attention."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

import taclnet_jax
from taclnet_jax import figures, metrics
from taclnet_jax.checkpoints import best_params
from taclnet_jax.config import check_config
from taclnet_jax.data import load_volume
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import Runs, fold_sections, targets_of
from taclnet_jax.errors import InputError
from taclnet_jax.inference import SectionPrediction, create_inference, predict_sections
from taclnet_jax.losses import LOSSES
from taclnet_jax.models import create_model
from taclnet_jax.reporting import with_progress, write_text

# Of P or P_hat; tried on training sections where config.evaluate.threshold_from says so.
THRESHOLDS = tuple(np.round(np.arange(0.05, 1, 0.05), 2).tolist())


def split_sections(config: Any, parts: Sequence[range]) -> tuple[Runs, Runs, Runs]:
    """(training, validation, test) runs; validation is the end of the last training run."""
    train, test = fold_sections(parts, config.fold)
    held_out = config.validation_sections
    if held_out == 0:
        return train, (), test
    last = train[-1]
    if not config.slices <= held_out <= len(last) - config.slices:
        raise InputError(
            f'Expected config.validation_sections to be 0, or from {config.slices} (a window) to '
            f'{len(last) - config.slices} (which leaves a window to train on, of the {len(last)} '
            f'sections of the last training run); found {held_out}.'
        )
    border = last.stop - held_out
    return (*train[:-1], range(last.start, border)), (range(border, last.stop),), test


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
        What results.json holds: for 'P' and 'P_hat' the threshold, that of the segments which grow
        until they touch, each section's scores, and their mean and standard deviation over
        sections.
    """
    train_runs, validation_runs, test_runs = split_sections(config, volume.parts)
    infer = create_inference(config, model, config.evaluate.views)

    def predictions(runs: Runs, limit: int, what: str) -> Iterable[SectionPrediction]:
        targets = targets_of(runs, limit)
        predicted = predict_sections(infer, params, volume.image, targets)
        return with_progress(predicted, len(targets), what, 'section')

    thresholds = dict.fromkeys(('P', 'P_hat'), config.evaluate.threshold)
    grown_thresholds = dict(thresholds)
    if config.evaluate.threshold_from != 'fixed':
        known = {'training': (*train_runs, *validation_runs), 'validation': validation_runs}
        runs = known[config.evaluate.threshold_from]
        tried = list(predictions(runs, config.evaluate.threshold_sections, 'threshold'))
        maps = {
            'P': {p.section: p.prob for p in tried},
            'P_hat': {p.section: p.refined for p in tried},
        }
        thresholds = {name: choose_threshold(volume, probs) for name, probs in maps.items()}
        grown_thresholds = {
            name: choose_threshold(volume, probs, 'voi_grown') for name, probs in maps.items()
        }
    scores: dict[str, list[dict[str, float]]] = {'P': [], 'P_hat': []}
    pictures: list[str] = []
    (workdir / 'pictures').mkdir(exist_ok=True)
    test = predictions(test_runs, config.evaluate.test_sections, 'test sections')
    tested: list[int] = []
    for i, prediction in enumerate(test):
        tested.append(prediction.section)
        for name, prob in (('P', prediction.prob), ('P_hat', prediction.refined)):
            both = thresholds[name], grown_thresholds[name]
            scores[name].append(all_scores(config, volume, prediction.section, prob, *both))
        if i % config.evaluate.picture_every == 0:
            pictures += write_pictures(
                volume, prediction, thresholds, grown_thresholds, workdir / 'pictures'
            )

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
            'threshold': thresholds[name],
            'threshold_grown': grown_thresholds[name],
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
        scores = score(config, volume, z, prob, threshold)
        sections.append(scores | {'loss': float(loss), 'threshold': threshold})
    means = {key: mean for key, (mean, _) in metrics.summarise(sections).items()}
    return means, attention_picture(volume, predictions[0], None)


def score(
    config: Any,
    volume: Volume,
    section: int,
    prob: np.ndarray,
    threshold: float,
    extended: Sequence[str] = (),
) -> dict[str, float]:
    """The main scores of one section, and further ones by name."""
    assert volume.membrane is not None
    return metrics.section_scores(
        prob,
        volume.membrane[section],
        None if volume.ids is None else volume.ids[section],
        ignore=None if volume.ignore is None else volume.ignore[section],
        threshold=threshold,
        betti_patch=config.evaluate.betti_patch,
        betti_patches=config.evaluate.betti_patches,
        seed=config.evaluate.betti_seed,
        extended=extended,
        resolution_nm=volume.resolution_nm,
    )


def all_scores(
    config: Any,
    volume: Volume,
    section: int,
    prob: np.ndarray,
    threshold: float,
    grown_threshold: float,
) -> dict[str, float]:
    """Every score of one section; those of grown segments at a threshold of their own."""
    grown = score(config, volume, section, prob, grown_threshold, metrics.GROWN)
    return score(config, volume, section, prob, threshold, metrics.EXTENDED) | {
        name: grown[name] for name in metrics.GROWN
    }


def choose_threshold(volume: Volume, probs: Mapping[int, np.ndarray], metric: str = 'voi') -> float:
    """The threshold of the lowest VOI on the given sections, `[height, width]` by number."""
    assert volume.membrane is not None
    return metrics.choose_threshold(
        list(probs.values()),
        [volume.membrane[z] for z in probs],
        None if volume.ids is None else [volume.ids[z] for z in probs],
        THRESHOLDS,
        metric,
        ignores=None if volume.ignore is None else [volume.ignore[z] for z in probs],
    )


def write_pictures(
    volume: Volume,
    prediction: SectionPrediction,
    thresholds: Mapping[str, float],
    grown_thresholds: Mapping[str, float],
    folder: Path,
) -> list[str]:
    """Writes the two pictures of a section and returns their paths."""
    assert volume.membrane is not None
    z = prediction.section
    membrane = volume.membrane[z]
    ids = None if volume.ids is None else volume.ids[z]
    ignore = None if volume.ignore is None else volume.ignore[z]
    comparison = folder / f'section_{z:03d}.png'
    attention = folder / f'attention_{z:03d}.png'
    figures.section_comparison(
        comparison,
        volume.image[z],
        membrane,
        prediction.prob,
        prediction.refined,
        metrics.true_segments(membrane, ids, ignore),
        metrics.segment(prediction.prob, thresholds['P'], ignore),
        metrics.segment(prediction.refined, thresholds['P_hat'], ignore),
        metrics.grow_segments(
            metrics.segment(prediction.refined, grown_thresholds['P_hat'], ignore)
        ),
    )
    attention_picture(volume, prediction, attention)
    return [str(comparison), str(attention)]


def attention_picture(
    volume: Volume, prediction: SectionPrediction, path: Path | None
) -> np.ndarray:
    """The poster's Fig. 5 of a section, written to `path` if given."""
    return figures.attention_panels(
        path,
        volume.image[prediction.section],
        prediction.critical_map,
        prediction.attention,
        prediction.refined,
    )


def format_table(results: dict[str, Any]) -> str:
    """The scores as Markdown tables, main and further ones: mean and deviation over sections."""
    sections = results['sections']
    lines = [
        f'{results["dataset"]}, fold {results["fold"]}, {len(sections)} sections from '
        f'{sections[0]} to {sections[-1]}, parameters of step {results["step"]} (mean ± standard '
        'deviation over sections)',
    ]
    for names, threshold in (
        (metrics.MAIN, 'threshold'),
        (metrics.EXTENDED, 'threshold'),
        (metrics.GROWN, 'threshold_grown'),
    ):
        titles = ' | '.join(metrics.COLUMNS[name] for name in names)
        lines += ['', f'| map | threshold | {titles} |', '|---|---|' + '---|' * len(names)]
        for prob in ('P', 'P_hat'):
            mean, std = results[prob]['mean'], results[prob]['std']
            cells = ' | '.join(f'{mean[name]:.4f} ± {std[name]:.4f}' for name in names)
            lines.append(f'| {prob} | {results[prob][threshold]:.2f} | {cells} |')
    return '\n'.join(lines) + '\n'


def hardware() -> str:
    """The devices and the processor that this process computes on."""
    devices = jax.local_devices()
    if jax.default_backend() == 'cpu':
        # Those that this process may use, where the system tells.
        linux = hasattr(os, 'sched_getaffinity')
        cores = len(os.sched_getaffinity(0)) if linux else os.cpu_count()
        return f'{len(devices)} CPU device(s), {cores} {platform.machine()} core(s)'
    return f'{len(devices)} x {devices[0].device_kind}'
