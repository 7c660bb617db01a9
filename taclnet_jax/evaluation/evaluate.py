"""Scores of P and P_hat of a trained network, with pictures. No label steers the attention."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import taclnet_jax
from taclnet_jax import metrics
from taclnet_jax.config.schema import as_nested
from taclnet_jax.cores import hardware
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import Stretches, split_sections
from taclnet_jax.errors import InputError
from taclnet_jax.evaluation.page import run_page, worst_first
from taclnet_jax.evaluation.report import format_table, remove_pictures, write_pictures
from taclnet_jax.evaluation.scoring import score, scored_targets
from taclnet_jax.evaluation.thresholds import choose_cuts
from taclnet_jax.files import replacing
from taclnet_jax.inference import SEGMENTED, Cut, Model, SectionPrediction, predict_sections
from taclnet_jax.inference.cut import fixed_cuts, map_of
from taclnet_jax.progress import with_progress

# Sections that are pictured besides every so many.
_WORST = 3


def evaluate(model: Model, volume: Volume, workdir: str | Path) -> dict[str, Any]:
    """Scores the test sections, prints the table, writes results.json, pictures and a report.

    Args:
        model, volume: a trained network, and the labelled volume that it was trained on.
        workdir: gets results.json, pictures/ and report.html, which take the place of older ones
            together, in the end.

    Returns:
        What results.json holds: for each of `MAPS` its `Cut`, each section's scores, and their
        mean and standard deviation over sections.

    Raises:
        InputError: the run has no test sections, or no cell is labelled in them.
    """
    settings, folder = model.settings, Path(workdir)
    evaluation = settings.evaluate
    split = split_sections(volume, settings.sampling)
    if not split.test:
        raise InputError(
            'Expected a run that held out sections to be scored on; config.fold=0 trains on all. '
            'Evaluate runs of folds 1 to 3 instead, or hold out config.custom.test_volumes.'
        )
    infer = model.inference

    def predictions(stretches: Stretches, limit: int, what: str) -> Iterable[SectionPrediction]:
        targets = scored_targets(volume, stretches, limit, what)
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
    tested: list[int] = []
    with (
        replacing(folder / 'results.json') as file,
        replacing(folder / 'pictures') as pictures,
        replacing(folder / 'report.html') as report,
    ):
        pictures.mkdir()
        drawn: set[int] = set()
        for prediction in predictions(split.test, evaluation.test_sections, 'test sections'):
            for name, cut in cuts.items():
                prob = map_of(prediction, name)
                scores[name].append(
                    score(evaluation, volume, prediction.section, prob, cut, extended=True)
                )
            tested.append(prediction.section)
            # Which are the worst of all is known at the end only.
            worst = set(worst_first(tested, scores[SEGMENTED])[:_WORST])
            wanted = worst | set(tested[:: evaluation.picture_every])
            if prediction.section in wanted:
                write_pictures(volume, prediction, cuts, pictures)
                drawn.add(prediction.section)
            for z in drawn - wanted:
                remove_pictures(pictures, z)
            drawn &= wanted
        results = summary(model, volume, tested, cuts, scores)
        file.write_text(json.dumps(results, indent=2) + '\n')
        report.write_text(run_page(results, pictures, folder / 'curves.png'))
    print(format_table(results))
    print(f'Report: {folder / "report.html"}')
    print(f'Results: {folder / "results.json"}')
    print('Pictures:', *sorted((folder / 'pictures').iterdir()), sep='\n  ')
    return results


def summary(
    model: Model,
    volume: Volume,
    sections: Sequence[int],
    cuts: Mapping[str, Cut],
    scores: Mapping[str, list[dict[str, float]]],
) -> dict[str, Any]:
    """What results.json holds, of the scores of each section by the name of the map."""
    settings = model.settings
    results: dict[str, Any] = {
        'dataset': settings.data.dataset,
        'fold': settings.sampling.fold,
        'sections': list(sections),
        'step': model.step,
        'resolution_nm': list(volume.resolution_nm),
        'hardware': hardware(),
        'version': taclnet_jax.__version__,
        'config': as_nested(settings),
    }
    for name, of_map in scores.items():
        means = metrics.summarise(of_map)
        results[name] = {
            **cuts[name]._asdict(),
            'mean': {key: mean for key, (mean, _) in means.items()},
            'std': {key: std for key, (_, std) in means.items()},
            'per_section': of_map,
        }
    return results
