"""Scores of P and P_hat of a trained network, with pictures. No label steers the attention."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

import taclnet_jax
from taclnet_jax import figures, metrics
from taclnet_jax.checkpoints import Checkpoints
from taclnet_jax.config import check_config
from taclnet_jax.data import load_volume
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import Runs, fold_sections
from taclnet_jax.errors import InputError
from taclnet_jax.inference import SectionPrediction, create_inference, predict_sections
from taclnet_jax.losses import LOSSES
from taclnet_jax.models import create_model
from taclnet_jax.reporting import Progress, write_text

# Of P or P_hat; tried on training sections where config.evaluate.threshold_from says so.
THRESHOLDS = tuple(np.round(np.arange(0.05, 1, 0.05), 2).tolist())

COLUMNS = {
    'dice': 'DICE',
    'dice_membrane': 'DICE membrane',
    'ari': 'ARI',
    'voi': 'VOI',
    'voi_split': 'VOI split',
    'voi_merge': 'VOI merge',
    'betti_error': 'Betti error',
}


def split_sections(config: Any, depth: int) -> tuple[Runs, Runs, Runs]:
    """(training, validation, test) runs of sections; validation is the end of the training part."""
    train, test = fold_sections(depth, config.fold)
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
    checkpoints = Checkpoints(workdir, config)
    step, params = checkpoints.restore_best_params()
    checkpoints.close()
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
        What results.json holds: for 'P' and 'P_hat' the threshold, each section's scores, and their
        mean and standard deviation over sections.
    """
    train_runs, validation_runs, test_runs = split_sections(config, volume.shape[0])
    infer = create_inference(config, model)

    def predictions(runs: Runs, what: str) -> Iterable[SectionPrediction]:
        progress = Progress(0, sum(map(len, runs)), unit='section')
        for prediction in predict_sections(infer, params, volume, runs, config.slices):
            yield prediction
            progress.step(what)
        progress.close()

    thresholds = dict.fromkeys(('P', 'P_hat'), config.evaluate.threshold)
    if config.evaluate.threshold_from == 'training':
        train = list(predictions((*train_runs, *validation_runs), 'threshold'))
        thresholds = choose_thresholds(train, volume)
    scores: dict[str, list[dict[str, float]]] = {'P': [], 'P_hat': []}
    pictures: list[str] = []
    (workdir / 'pictures').mkdir(exist_ok=True)
    for i, prediction in enumerate(predictions(test_runs, 'test sections')):
        for name, prob in (('P', prediction.prob), ('P_hat', prediction.refined)):
            scores[name].append(score(config, volume, prediction.section, prob, thresholds[name]))
        if i % config.evaluate.picture_every == 0:
            pictures += write_pictures(volume, prediction, thresholds, workdir / 'pictures')

    results: dict[str, Any] = {
        'dataset': config.dataset,
        'fold': config.fold,
        'sections': [section for run in test_runs for section in run],
        'step': step,
        'hardware': hardware(),
        'version': taclnet_jax.__version__,
        'config': config.to_dict(),
    }
    for name, sections in scores.items():
        summary = metrics.summarise(sections)
        results[name] = {
            'threshold': thresholds[name],
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

    P_hat is scored where the run trains attention, P elsewhere.

    Returns:
        ({'voi': ..., ...}, picture `[height, width, 3]` uint8).
    """
    assert volume.membrane is not None
    picture, sections = None, []
    for prediction in predict_sections(infer, params, volume, runs, config.slices):
        prob = prediction.prob if config.attention.kind == 'none' else prediction.refined
        z = prediction.section
        scores = score(config, volume, z, prob, config.evaluate.threshold)
        loss = LOSSES[config.loss](jax.numpy.asarray(prob), jax.numpy.asarray(volume.membrane[z]))
        sections.append(scores | {'loss': float(loss)})
        if picture is None:
            picture = attention_picture(volume, prediction, None)
    assert picture is not None
    means = {key: mean for key, (mean, _) in metrics.summarise(sections).items()}
    return means, picture


def score(
    config: Any, volume: Volume, section: int, prob: np.ndarray, threshold: float
) -> dict[str, float]:
    """All metrics of one section."""
    assert volume.membrane is not None
    return metrics.section_scores(
        prob,
        volume.membrane[section],
        None if volume.ids is None else volume.ids[section],
        threshold=threshold,
        betti_patch=config.evaluate.betti_patch,
        betti_patches=config.evaluate.betti_patches,
        seed=config.evaluate.betti_seed,
    )


def choose_thresholds(train: list[SectionPrediction], volume: Volume) -> dict[str, float]:
    """For P and for P_hat the threshold with the lowest VOI on training sections."""
    assert volume.membrane is not None
    membranes = [volume.membrane[p.section] for p in train]
    ids = None if volume.ids is None else [volume.ids[p.section] for p in train]
    return {
        'P': metrics.choose_threshold([p.prob for p in train], membranes, ids, THRESHOLDS),
        'P_hat': metrics.choose_threshold([p.refined for p in train], membranes, ids, THRESHOLDS),
    }


def write_pictures(
    volume: Volume, prediction: SectionPrediction, thresholds: dict[str, float], folder: Path
) -> list[str]:
    """Writes the two pictures of a section and returns their paths."""
    assert volume.membrane is not None
    z = prediction.section
    comparison = folder / f'section_{z:03d}.png'
    attention = folder / f'attention_{z:03d}.png'
    figures.section_comparison(
        comparison,
        volume.image[z],
        volume.membrane[z],
        prediction.prob,
        prediction.refined,
        metrics.true_segments(volume.membrane[z], None if volume.ids is None else volume.ids[z]),
        metrics.segment(prediction.prob, thresholds['P']),
        metrics.segment(prediction.refined, thresholds['P_hat']),
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
    """The scores as a Markdown table: mean and standard deviation over sections."""
    sections = results['sections']
    lines = [
        f'{results["dataset"]}, fold {results["fold"]}, sections {sections[0]}-{sections[-1]}, '
        f'parameters of step {results["step"]} (mean ± standard deviation over sections)',
        '',
        '| map | threshold | ' + ' | '.join(COLUMNS.values()) + ' |',
        '|---|---|' + '---|' * len(COLUMNS),
    ]
    for name in ('P', 'P_hat'):
        mean, std = results[name]['mean'], results[name]['std']
        cells = ' | '.join(f'{mean[key]:.4f} ± {std[key]:.4f}' for key in COLUMNS)
        lines.append(f'| {name} | {results[name]["threshold"]:.2f} | {cells} |')
    return '\n'.join(lines) + '\n'


def hardware() -> str:
    """The devices and the processor that this process computes on."""
    devices = jax.local_devices()
    if jax.default_backend() == 'cpu':
        return f'{len(devices)} CPU device(s), {os.cpu_count()} {platform.machine()} cores'
    return f'{len(devices)} x {devices[0].device_kind}'
