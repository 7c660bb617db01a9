"""What a threshold does to scores, and what attention adds at the same one, closed and not.

    python -m benchmarks.cuts --run=runs/screening/flagship_1

On the sections that a finished run held out: those for validation, or without these its test
sections. VOI counts membrane inside of a cell, so that a higher threshold, which draws thinner
membranes, lowers it as long as none opens; "grown" is the VOI of the same segments after they have
grown into their membranes, which no thickness changes. Closings are those of the lowest VOI for
each threshold.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.finished import parser_of_run
from taclnet_jax import metrics
from taclnet_jax.commandline import with_messages
from taclnet_jax.data import load_volume
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import split_sections, targets_of
from taclnet_jax.errors import InputError
from taclnet_jax.evaluation.scoring import score
from taclnet_jax.evaluation.thresholds import choose_closing
from taclnet_jax.inference import Cut, Model, load, predict_sections
from taclnet_jax.inference.cut import map_of

THRESHOLDS = (0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8)
COLUMNS = ('dice', 'ari', 'voi', 'betti_error')


def row(model: Model, volume: Volume, probs: Mapping[int, np.ndarray], cut: Cut) -> list[float]:
    """Means over sections: `COLUMNS`, and VOI after segments have grown together."""
    scores, grown = [], []
    for z, prob in probs.items():
        membrane, ids, ignore = volume.labels(z)
        closed, plain = cut.closed(prob, ignore), Cut(cut.threshold)
        scores.append(score(model.settings.evaluate, volume, z, closed, plain))
        segments = metrics.grow_segments(plain.segments(closed, ignore))
        truth = metrics.true_segments(membrane, ids, ignore)
        grown.append(sum(metrics.variation_of_information(truth, segments)))
    means = metrics.summarise(scores)
    return [means[name][0] for name in COLUMNS] + [float(np.mean(grown))]


def main() -> None:
    """Prints the table."""
    run = parser_of_run(__doc__).parse_args().run
    model = load(run)
    volume = load_volume(model.settings.data)
    split = split_sections(volume, model.settings.sampling)
    targets = targets_of(split.validation or split.test)
    if not targets:
        raise InputError(f'Expected a run that held out sections; {run} held out none.')
    predicted = predict_sections(model.inference, model.variables, volume.image, targets)
    maps: dict[str, dict[int, np.ndarray]] = {'P': {}, 'P_hat': {}}
    for found in predicted:
        for name, probs in maps.items():
            probs[found.section] = map_of(found, name)
    titles = [*(metrics.COLUMNS[name] for name in COLUMNS), 'VOI, grown']
    closed_titles = [f'{title}, closed' for title in titles]
    print(f'{len(targets)} sections\n')
    print('| threshold | map | ' + ' | '.join(titles + closed_titles) + ' |')
    print('|---' * (2 + 2 * len(titles)) + '|')
    for threshold in THRESHOLDS:
        for name, probs in maps.items():
            closing = choose_closing(volume, probs, threshold)
            values = row(model, volume, probs, Cut(threshold))
            values += row(model, volume, probs, Cut(threshold, closing))
            cells = ' | '.join(f'{value:.3f}' for value in values)
            print(f'| {threshold} | {name} | {cells} |', flush=True)


if __name__ == '__main__':
    with_messages(main)
