r"""How attention should enter the loss: forms of phase two, compared on validation sections.

    python -m benchmarks.attention_forms \
        --run=runs/reproduce/isbi12_recurrent_unet_fold3_seed0_slices3

From the phase one of a finished run without attention, phase two is trained once in each form; each
network is then scored as P and as P_hat with several alphas, on the validation sections alone. All
variants are treated alike, the threshold included (lowest VOI on the same sections), so that they
can be compared with each other; with scores of test sections they cannot.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import jax

from benchmarks.finished import HEADER, Attention, Finished, parser_of_run, target
from taclnet_jax.attention import sta_attention
from taclnet_jax.commandline import with_messages
from taclnet_jax.config import read_settings, to_config
from taclnet_jax.data import load_volume
from taclnet_jax.errors import InputError
from taclnet_jax.files import write_text
from taclnet_jax.main import train_and_evaluate
from taclnet_jax.training.checkpoints import phase_one_of

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


def train(form: str, run: Path, workdir: Path) -> Path:
    """Trains phase two of a run without attention in another form, and returns its folder."""
    if FORMS[form][0] == 'none':
        return run
    config = to_config(read_settings(run))
    config.attention.kind, config.attention.form, config.attention.alpha = FORMS[form]
    config.start_from = phase_one_of(run, config.start_from)
    config.evaluate.test_sections = 1  # which nobody looks at
    folder = workdir / run.name / ''.join(c if c.isalnum() else '_' for c in form)
    if not (folder / 'results.json').exists():
        train_and_evaluate(config, folder)
    return folder


def scores_of(finished: Finished) -> dict[str, dict[str, float]]:
    """Mean scores of P and of P_hat on the validation sections, by map."""
    options = finished.model.settings.attention.options

    def attend(prob: jax.Array, alpha: float) -> jax.Array:
        return sta_attention(prob, **(options | {'alpha': alpha})).refined

    maps: dict[str, Attention] = {'P': target}
    maps |= {f'P_hat, alpha {alpha:g}': partial(attend, alpha=alpha) for alpha in ALPHAS}
    return {name: finished.row(attention) for name, attention in maps.items()}


def main() -> None:
    """Trains what is missing, prints the table and writes it beside the runs."""
    parser = parser_of_run(__doc__)
    parser.add_argument('--workdir', type=Path, default=Path('runs/attention_forms'))
    parser.add_argument('--forms', nargs='+', default=list(FORMS), choices=list(FORMS))
    args = parser.parse_args()
    settings = read_settings(args.run)
    if settings.attention.kind != 'none':
        raise InputError(
            f'Expected --run to be one without attention; found {settings.attention.kind} in '
            f'{args.run}.'
        )
    folder = args.workdir / args.run.name
    folder.mkdir(parents=True, exist_ok=True)
    volume = load_volume(settings.data)
    lines = [
        f'Validation sections of {args.run.name}',
        '',
        '| trained with | scored | ' + ' | '.join(HEADER) + ' |',
        '|---' * (2 + len(HEADER)) + '|',
    ]
    found = {}
    for form in args.forms:
        found[form] = scores_of(Finished.load(train(form, args.run, args.workdir), volume))
        for name, scores in found[form].items():
            cells = ' | '.join(f'{value:.3f}' for value in scores.values())
            lines.append(f'| {form} | {name} | {cells} |')
        print('\n'.join(lines), flush=True)
        write_text(folder / 'scores.json', json.dumps(found, indent=1) + '\n')


if __name__ == '__main__':
    with_messages(main)
