"""What a model that is handed out is worth as a start on other tissue, by labelled sections.

    TACLNET_DATA_DIR=/data python -m benchmarks.finetuning --dataset=isbi12

Of a data set that the other model has not seen (isbi12: snemi3d's, isbi13: isbi12's) the last 1, 2,
5 and 10 sections before those of fold 3 are labelled, and no others; the images of all may be
looked at. The flagship is trained on them for as many updates from the model's parameters and from
none, its cuts are those of the lowest VOI on the labelled sections, and test sections of fold 3 are
scored, in one view. Runs that are there are not made again, and one that was stopped goes on. The
table is printed, and drawn to DATASET.png in --workdir.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.screening import make
from taclnet_jax.commandline import allow_callbacks, keep_compiled, with_messages
from taclnet_jax.errors import InputError
from taclnet_jax.files import write_text
from taclnet_jax.metrics.maps import CLOSED_MAPS

LABELLED = (1, 2, 5, 10)
STARTS = {'isbi12': 'snemi3d', 'isbi13': 'isbi12'}
RATE = 1e-3  # from a model; from none it is the flagship's, 3e-3
SCORES = ('ari', 'voi', 'betti_error', 'dice')
DRAWN = {
    'P_hat_closed ari': 'ARI (higher is better)',
    'P_hat_closed voi': 'VOI, bits (lower is better)',
    'P_hat_closed betti_error': 'Betti error, loops (lower is better)',
}

# As `config.custom` reads what the builders of these data sets do.
_FILES: dict[str, dict[str, Any]] = {
    'isbi12': {
        'custom.image': 'isbi12/train-volume.tif',
        'custom.labels': 'isbi12/train-labels.tif',
        'custom.label_kind': 'interior',
        'custom.resolution_nm': (50.0, 4.0, 4.0),
    },
    'isbi13': {
        'custom.image': 'snemi3d/train-input.tif',
        'custom.labels': 'snemi3d/train-labels.tif',
        'custom.label_kind': 'ids',
        'custom.resolution_nm': (30.0, 6.0, 6.0),
    },
}


def configured(dataset: str, labelled: range, start: str, folder: str) -> Any:
    """The configuration of a run on these labelled sections, but for its epochs."""
    from taclnet_jax.config.shipped import read_config_file

    config = read_config_file(dataset)
    config.dataset = 'custom'
    config.update_from_flattened_dict(_FILES[dataset])
    for name in ('image', 'labels'):
        config.custom[name] = str(Path(folder) / config.custom[name])
    config.custom.boxes = ((labelled.start, labelled.stop),)
    config.fold = config.validation_sections = config.phase_two.epochs = 0
    config.evaluate.threshold_from = 'fixed'
    config.initialise_from = start
    if start:
        config.phase_one.learning_rate = RATE
    return config


def scores(dataset: str, run: Path, labelled: range, sections: int) -> dict[str, float]:
    """Mean scores of at most so many test sections, by map and score."""
    from benchmarks.finished import mean_scores
    from taclnet_jax.config import run_settings
    from taclnet_jax.config.shipped import read_config_file
    from taclnet_jax.data import load_volume
    from taclnet_jax.data.windows import split_sections
    from taclnet_jax.evaluation.scoring import scored_targets
    from taclnet_jax.evaluation.thresholds import choose_cuts
    from taclnet_jax.inference import load, predict_sections

    model = load(run)
    infer = replace(model.inference, views=1)
    settings = run_settings(read_config_file(dataset))
    volume = load_volume(settings.data)
    everywhere = range(volume.shape[0])

    def predicted(targets: Any) -> Any:
        return predict_sections(infer, model.variables, volume.image, targets)

    cuts = choose_cuts(volume, list(predicted([(z, everywhere) for z in labelled])))
    split = split_sections(volume, settings.sampling)
    test = scored_targets(volume, split.test, sections, 'test sections')
    closed = {name: cuts[name] for name in CLOSED_MAPS}
    means = mean_scores(settings.evaluate, volume, predicted(test), closed)
    return {f'{name} {key}': means[name][key] for name in CLOSED_MAPS for key in SCORES}


def draw(path: Path, found: dict[str, dict[int, dict[str, float]]]) -> None:
    """The scores of P_hat closed against labelled sections, a line for each start."""
    from taclnet_jax.figures.curves import draw_curves
    from taclnet_jax.figures.panels import figure_of, rendered, write_png

    figure = figure_of(1280, 390, layout='constrained')
    for place, (key, title) in enumerate(DRAWN.items(), start=1):
        lines = {
            name: (list(runs), [scores[key] for scores in runs.values()])
            for name, runs in found.items()
        }
        axis = figure.add_subplot(1, len(DRAWN), place)
        draw_curves(axis, title, lines, x_label='Labelled sections')
    write_png(path, rendered(figure))


def main() -> None:
    """Makes what is missing, and prints and draws the table after each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--dataset', choices=list(STARTS), default='isbi12')
    parser.add_argument('--updates', type=int, default=200, help='of each run, about')
    parser.add_argument('--sections', type=int, default=6, help='that are scored, evenly spread')
    parser.add_argument('--labelled', nargs='+', type=int, default=LABELLED)
    parser.add_argument('--workdir', type=Path, default=Path('runs/finetuning'))
    args = parser.parse_args()
    folder = os.environ.get('TACLNET_DATA_DIR')
    if not folder:
        raise InputError('Expected the folder of the raw files in TACLNET_DATA_DIR, found none.')

    # Where fold 3's test sections begin.
    end = {'isbi12': 20, 'isbi13': 66}[args.dataset]
    print(f'| labelled | start | {" | ".join(f"{n} {s}" for n in CLOSED_MAPS for s in SCORES)} |')
    print('|---' * (2 + len(CLOSED_MAPS) * len(SCORES)) + '|')
    known: dict[str, dict[int, dict[str, float]]] = {}
    for number in args.labelled:
        for start in ('', STARTS[args.dataset]):
            labelled = range(end - number, end)
            run = args.workdir / f'{args.dataset}_{number}_{start or "scratch"}'
            path = run / 'scores.json'
            if not path.exists():
                make(configured(args.dataset, labelled, start, folder), args.updates, run)
                found = scores(args.dataset, run, labelled, args.sections)
                write_text(path, json.dumps(found, indent=2) + '\n')
            found = json.loads(path.read_text())
            cells = ' | '.join(f'{x:.3f}' for x in found.values())
            print(f'| {number} | {start or "none"} | {cells} |', flush=True)
            known.setdefault(f'from {start or "nothing"}', {})[number] = found
            draw(args.workdir / f'{args.dataset}.png', known)


if __name__ == '__main__':
    allow_callbacks()
    keep_compiled()
    with_messages(main)
