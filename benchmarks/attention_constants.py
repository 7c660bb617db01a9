r"""Constants of attention at test time, compared on the validation sections of a finished run.

    python -m benchmarks.attention_constants \
        --run=runs/reproduce/isbi12_recurrent_unet_fold3_seed0_slices3

One constant is changed at a time from the poster's. 'own section alone' attends to the critical
points of the section itself only, and 'n rounds' does so n times, each time on the last P_hat.
Thresholds are those of the lowest VOI on the same sections, for all alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.attention_forms import COLUMNS, scores_of
from taclnet_jax.attention import sta_attention
from taclnet_jax.checkpoints import best_params
from taclnet_jax.data import load_volume, training_volume
from taclnet_jax.data.pipeline import normalised
from taclnet_jax.data.windows import targets_of
from taclnet_jax.evaluate import split_sections
from taclnet_jax.inference import create_inference, doubled
from taclnet_jax.models import create_model
from taclnet_jax.workdir import read_config

POSTER: dict[str, Any] = {'alpha': 1.0, 'sigma': 1.0, 'min_persistence': 0.1}
CHANGES: dict[str, list[float]] = {
    'alpha': [0.5, 2.0, 4.0],
    'sigma': [0.7, 1.5, 2.0],
    'min_persistence': [0.03, 0.3],
}

Attention = Callable[[jax.Array], jax.Array]


def variants() -> dict[str, Attention]:
    """By name: from P of a window `[slices, height, width]` to a map of its target."""

    def target(prob: jax.Array) -> jax.Array:
        return prob[prob.shape[0] // 2]

    def attend(prob: jax.Array, **constants: float) -> jax.Array:
        return sta_attention(prob, **(POSTER | constants)).refined

    def rounds(prob: jax.Array, n: int) -> jax.Array:
        refined = target(prob)
        for _ in range(n):
            refined = attend(refined[None])
        return refined

    found: dict[str, Attention] = {'P': target, 'P_hat, as in the poster': attend}
    for name, values in CHANGES.items():
        for value in values:
            found[f'{name} {value:g}'] = partial(attend, **{name: value})
    found['own section alone'] = partial(rounds, n=1)
    return found | {f'{n} rounds': partial(rounds, n=n) for n in (2, 3)}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--run', type=Path, required=True, help='folder of a finished run')
    args = parser.parse_args()
    config = read_config(str(args.run))
    volume = load_volume(config)
    _, runs, _ = split_sections(config, volume.parts)
    model = create_model(config)
    _, params = best_params(args.run, config)
    infer = create_inference(config, model, config.evaluate.views)
    image = normalised(training_volume(config, volume).image)
    probs = {z: infer(params, image, z, run)[0] for z, run in targets_of(runs, 0)}
    print('| attention | ' + ' | '.join((*COLUMNS, 'threshold')) + ' |')
    print('|---' * (2 + len(COLUMNS)) + '|')
    for name, attention in variants().items():
        attend = jax.jit(attention)
        maps = {z: np.asarray(attend(prob)) for z, prob in probs.items()}
        if config.downsample == 2:
            maps = {z: doubled(x, volume.shape[1:]) for z, x in maps.items()}
        cells = ' | '.join(f'{value:.3f}' for value in scores_of(config, volume, maps).values())
        print(f'| {name} | {cells} |', flush=True)


if __name__ == '__main__':
    main()
