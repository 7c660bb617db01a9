"""Scores of P and P_hat of a trained network, with pictures. No label steers the attention."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import taclnet_jax
from taclnet_jax import metrics
from taclnet_jax.config.schema import as_nested
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import Stretches, split_sections, targets_of
from taclnet_jax.evaluation.report import format_table, hardware, write_pictures
from taclnet_jax.evaluation.scoring import score
from taclnet_jax.evaluation.thresholds import choose_cuts
from taclnet_jax.files import write_text
from taclnet_jax.inference import Model, SectionPrediction, predict_sections
from taclnet_jax.inference.cut import fixed_cuts, map_of
from taclnet_jax.progress import with_progress


def evaluate(model: Model, volume: Volume, workdir: str | Path) -> dict[str, Any]:
    """Scores the test sections, prints the table, writes results.json and pictures.

    Args:
        model, volume: a trained network, and the labelled volume that it was trained on.
        workdir: gets results.json and pictures/.

    Returns:
        What results.json holds: for each of `MAPS` its `Cut`, each section's scores, and their
        mean and standard deviation over sections.
    """
    settings, folder = model.settings, Path(workdir)
    evaluation = settings.evaluate
    split = split_sections(volume.parts, settings.sampling)
    infer = model.inference

    def predictions(stretches: Stretches, limit: int, what: str) -> Iterable[SectionPrediction]:
        targets = targets_of(stretches, limit)
        predicted = predict_sections(infer, model.variables, volume.image, targets)
        return with_progress(predicted, len(targets), what, 'section')

    if evaluation.threshold_from == 'fixed':
        cuts = fixed_cuts(evaluation.threshold)
    else:
        known = split.validation
        if evaluation.threshold_from == 'training':
            known = (*split.train, *known)
        tried = predictions(known, evaluation.threshold_sections, 'threshold')
        cuts = choose_cuts(volume, list(tried))
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in cuts}
    pictures: list[str] = []
    (folder / 'pictures').mkdir(exist_ok=True)
    tested: list[int] = []
    for prediction in predictions(split.test, evaluation.test_sections, 'test sections'):
        for name, cut in cuts.items():
            prob = map_of(prediction, name)
            scores[name].append(
                score(evaluation, volume, prediction.section, prob, cut, extended=True)
            )
        if len(tested) % evaluation.picture_every == 0:
            pictures += write_pictures(volume, prediction, cuts, folder / 'pictures')
        tested.append(prediction.section)

    results: dict[str, Any] = {
        'dataset': settings.data.dataset,
        'fold': settings.sampling.fold,
        'sections': tested,
        'step': model.step,
        'resolution_nm': list(volume.resolution_nm),
        'hardware': hardware(),
        'version': taclnet_jax.__version__,
        'config': as_nested(settings),
    }
    for name, sections in scores.items():
        summary = metrics.summarise(sections)
        results[name] = {
            **cuts[name]._asdict(),
            'mean': {key: mean for key, (mean, _) in summary.items()},
            'std': {key: std for key, (_, std) in summary.items()},
            'per_section': sections,
        }
    write_text(folder / 'results.json', json.dumps(results, indent=2) + '\n')
    print(format_table(results))
    print(f'Results: {folder / "results.json"}')
    print('Pictures:', *pictures, sep='\n  ')
    return results
