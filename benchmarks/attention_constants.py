r"""Constants of attention at test time, compared on the validation sections of a finished run.

    python -m benchmarks.attention_constants \
        --run=runs/reproduce/isbi12_recurrent_unet_fold3_seed0_slices3

One constant is changed at a time from the poster's. 'own section alone' attends to the critical
points of the section itself only, and 'n rounds' does so n times, each time on the last P_hat.
Thresholds are those of the lowest VOI on the same sections, for all alike.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from benchmarks.finished import HEADER, Attention, Finished, parser_of_run, target
from taclnet_jax.attention import sta_attention
from taclnet_jax.commandline import with_messages

POSTER: dict[str, Any] = {'alpha': 1.0, 'sigma': 1.0, 'min_persistence': 0.1}
CHANGES: dict[str, list[float]] = {
    'alpha': [0.5, 2.0, 4.0],
    'sigma': [0.7, 1.5, 2.0],
    'min_persistence': [0.03, 0.3],
}


def variants() -> dict[str, Attention]:
    """By name."""

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
    finished = Finished.load(parser_of_run(__doc__).parse_args().run)
    print('| attention | ' + ' | '.join(HEADER) + ' |')
    print('|---' * (1 + len(HEADER)) + '|')
    for name, attention in variants().items():
        cells = ' | '.join(f'{value:.3f}' for value in finished.row(attention).values())
        print(f'| {name} | {cells} |', flush=True)


if __name__ == '__main__':
    with_messages(main)
