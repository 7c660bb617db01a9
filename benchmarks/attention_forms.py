r"""How attention should enter the loss: forms of phase two, compared on validation sections.

    python -m benchmarks.attention_forms \
        --run=runs/reproduce/isbi12_recurrent_unet_fold3_seed0_slices3

From the phase one of a finished run without attention, phase two is trained once in each form; each
network is then scored as P and as P_hat with several alphas, on the validation sections alone. All
variants are treated alike, the threshold included (lowest VOI on the same sections), so that they
can be compared with each other; with scores of test sections they cannot.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from taclnet_jax import metrics
from taclnet_jax.attention.sta import sta_attention
from taclnet_jax.commandline import with_messages
from taclnet_jax.data import load_volume, training_volume
from taclnet_jax.data.normalisation import normalised
from taclnet_jax.data.resolution import doubled
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import split_sections, targets_of
from taclnet_jax.errors import InputError
from taclnet_jax.evaluation.evaluate import score
from taclnet_jax.evaluation.thresholds import choose_closing, choose_threshold
from taclnet_jax.files import write_text
from taclnet_jax.inference.cut import Cut
from taclnet_jax.inference.sections import create_inference, sta_options
from taclnet_jax.models import create_model
from taclnet_jax.training.checkpoints import best_params
from taclnet_jax.training.loop import train_and_evaluate
from taclnet_jax.training.workdir import phase_one_of, read_config

# From P of a window to a map of its target.
Attention = Callable[[jax.Array], jax.Array]

# By name: (kind, form, alpha) of phase two.
FORMS = {
    'no attention': ('none', 'refined', 1.0),
    'P_hat (poster)': ('sta', 'refined', 1.0),
    'P_hat (poster), alpha 0.5': ('sta', 'refined', 0.5),
    'P_hat, straight through': ('sta', 'straight_through', 1.0),
    'P_hat, straight through, alpha 0.5': ('sta', 'straight_through', 0.5),
    'P and P_hat': ('sta', 'both', 0.5),
    'weight on the loss of P': ('sta', 'weighted', 1.0),
}
ALPHAS = (0.5, 1.0)
COLUMNS = ('dice', 'ari', 'voi', 'voi_split', 'voi_merge', 'betti_error')
CLOSED_COLUMNS = ('ari', 'voi', 'betti_error')  # after `taclnet_jax.metrics.close_membranes`
HEADER = (*COLUMNS, *(f'{name} closed' for name in CLOSED_COLUMNS), 'threshold')


def train(form: str, run: Path, workdir: Path) -> Path:
    """Trains phase two of a run without attention in another form, and returns its folder."""
    if FORMS[form][0] == 'none':
        return run
    config = copy.deepcopy(read_config(str(run)))
    config.attention.kind, config.attention.form, config.attention.alpha = FORMS[form]
    config.start_from = phase_one_of(run, config)
    config.evaluate.test_sections = 1  # which nobody looks at
    folder = workdir / run.name / ''.join(c if c.isalnum() else '_' for c in form)
    if not (folder / 'results.json').exists():
        train_and_evaluate(config, str(folder))
    return folder


def validation_probs(folder: Path, config: Any, volume: Volume) -> dict[int, jax.Array]:
    """P of the windows of a run's validation sections, as its network sees them, by section."""
    _, runs, _ = split_sections(config, volume.parts)
    if not runs:
        raise InputError(f'Expected a run with validation sections; {folder} held out none.')
    _, params = best_params(folder, config)
    infer = create_inference(config, create_model(config), config.evaluate.views)
    image = normalised(training_volume(config, volume).image)
    return {z: infer(params, image, z, run)[0] for z, run in targets_of(runs, 0)}


def run_to_score(description: str | None) -> tuple[Any, Volume, dict[int, jax.Array]]:
    """(config, volume, `validation_probs`) of the finished run that --run names."""
    parser = argparse.ArgumentParser(description=(description or '').splitlines()[0])
    parser.add_argument('--run', type=Path, required=True, help='folder of a finished run')
    run = parser.parse_args().run
    config = read_config(str(run))
    volume = load_volume(config)
    return config, volume, validation_probs(run, config, volume)


def at_full_size(config: Any, volume: Volume, maps: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Maps of sections as the network sees them, interpolated to the volume's own size."""
    if config.downsample == 1:
        return maps
    return {z: doubled(x, volume.shape[1:]) for z, x in maps.items()}


def scores_of(
    config: Any, volume: Volume, attend: Attention, probs: dict[int, jax.Array]
) -> dict[str, float]:
    """Mean scores of what attention makes of windows, at the threshold of the lowest VOI on it."""
    compiled = jax.jit(attend)
    seen = {z: np.asarray(compiled(prob)) for z, prob in probs.items()}
    maps = at_full_size(config, volume, seen)
    threshold = choose_threshold(volume, maps)
    plain, closed = (
        metrics.summarise([score(config, volume, z, x, cut) for z, x in maps.items()])
        for cut in (Cut(threshold), Cut(threshold, choose_closing(volume, maps, threshold)))
    )
    scores = {name: plain[name][0] for name in COLUMNS}
    scores |= {f'{name} closed': closed[name][0] for name in CLOSED_COLUMNS}
    return scores | {'threshold': threshold}


def target(prob: jax.Array) -> jax.Array:
    """P of a window's target."""
    return prob[prob.shape[0] // 2]


def validation_scores(folder: Path, volume: Volume) -> dict[str, dict[str, float]]:
    """Mean scores of P and of P_hat, by map, on the validation sections of a run."""
    config = read_config(str(folder))
    probs = validation_probs(folder, config, volume)
    options = sta_options(config)

    def attend(prob: jax.Array, alpha: float) -> jax.Array:
        return sta_attention(prob, **(options | {'alpha': alpha})).refined

    maps: dict[str, Attention] = {'P': target}
    maps |= {f'P_hat, alpha {alpha:g}': partial(attend, alpha=alpha) for alpha in ALPHAS}
    return {name: scores_of(config, volume, attend, probs) for name, attend in maps.items()}


def main() -> None:
    """Trains what is missing, prints the table and writes it beside the runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--run', type=Path, required=True, help='folder of a finished run')
    parser.add_argument('--workdir', type=Path, default=Path('runs/attention_forms'))
    parser.add_argument('--forms', nargs='+', default=list(FORMS), choices=list(FORMS))
    args = parser.parse_args()
    config = read_config(str(args.run))
    if config.attention.kind != 'none':
        raise InputError(
            f'Expected --run to be one without attention; found {config.attention.kind} in '
            f'{args.run}.'
        )
    folder = args.workdir / args.run.name
    folder.mkdir(parents=True, exist_ok=True)
    volume = load_volume(config)
    lines = [
        f'Validation sections of {args.run.name}',
        '',
        '| trained with | scored | ' + ' | '.join(HEADER) + ' |',
        '|---' * (2 + len(HEADER)) + '|',
    ]
    found = {}
    for form in args.forms:
        found[form] = validation_scores(train(form, args.run, args.workdir), volume)
        for name, scores in found[form].items():
            cells = ' | '.join(f'{value:.3f}' for value in scores.values())
            lines.append(f'| {form} | {name} | {cells} |')
        print('\n'.join(lines), flush=True)
        write_text(folder / 'scores.json', json.dumps(found, indent=1) + '\n')


if __name__ == '__main__':
    with_messages(main)
