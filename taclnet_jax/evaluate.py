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
from taclnet_jax.thresholds import (
    MAPS,
    TITLES,
    Cut,
    choose_cuts,
    choose_threshold,
    fixed_cuts,
    ignored,
    map_of,
)


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


def write_pictures(
    volume: Volume, prediction: SectionPrediction, cuts: Mapping[str, Cut], folder: Path
) -> list[str]:
    """Writes the two pictures of a section and returns their paths."""
    assert volume.membrane is not None
    z = prediction.section
    membrane = volume.membrane[z]
    ids = None if volume.ids is None else volume.ids[z]
    ignore = ignored(volume, z)

    def segments(name: str) -> np.ndarray:
        closed = cuts[name].closed(map_of(prediction, name), ignore)
        return metrics.segment(closed, cuts[name].threshold, ignore)

    comparison = folder / f'section_{z:03d}.png'
    attention = folder / f'attention_{z:03d}.png'
    figures.section_comparison(
        comparison,
        volume.image[z],
        membrane,
        prediction.prob,
        prediction.refined,
        metrics.true_segments(membrane, ids, ignore),
        segments('P'),
        segments('P_hat'),
        segments('P_hat_closed'),
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
    for names in (metrics.MAIN, metrics.EXTENDED):
        titles = ' | '.join(metrics.COLUMNS[name] for name in names)
        lines += ['', f'| map | threshold | {titles} |', '|---|---|' + '---|' * len(names)]
        for prob in MAPS:
            mean, std = results[prob]['mean'], results[prob]['std']
            cells = ' | '.join(f'{mean[name]:.4f} ± {std[name]:.4f}' for name in names)
            lines.append(f'| {TITLES[prob]} | {results[prob]["threshold"]:.2f} | {cells} |')
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
