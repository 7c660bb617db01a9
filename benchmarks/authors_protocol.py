"""How much of the poster the authors' protocol explains: a finished run, scored as their code does.

    python -m benchmarks.authors_protocol --run=runs/reproduce/isbi12_taclnet_fold3_seed0_slices3

**Labels steer the attention here**, as in the authors' validation, so that these scores say nothing
of a network; every other command of this project is without labels. On the run's test sections, at
half resolution, labels pooled with floor (a pixel is cell if all four are), P of one view cut at
0.5: in each patch of 39x39 pixels in which the Betti number of the prediction is not the truth's,
the topological attention (STA with alpha 1) is added; elsewhere P stays. DICE is that of P.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from benchmarks.finished import parser_of_run
from taclnet_jax import metrics
from taclnet_jax.commandline import allow_callbacks, with_messages

PATCH_PX = 39
COLUMNS = ('dice', 'ari', 'voi', 'betti_error')


def betti_number(membrane: NDArray[np.bool_]) -> int:
    """Of a patch's membrane, framed with membrane: the 4-connected pieces of cell."""
    return int(label(~membrane, connectivity=1).max())


def gated(
    prob: NDArray[np.float32], refined: NDArray[np.float32], truth: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """P_hat in the patches whose Betti number is wrong in P, P in the others; `[height, width]`."""
    mixed = prob.copy()
    for patch in _patches(prob.shape):
        if betti_number(prob[patch] >= 0.5) != betti_number(truth[patch]):
            mixed[patch] = refined[patch]
    return mixed


def _patches(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    for y in range(0, shape[0], PATCH_PX):
        for x in range(0, shape[1], PATCH_PX):
            yield slice(y, y + PATCH_PX), slice(x, x + PATCH_PX)


def main() -> None:
    """Prints the rows."""
    run = parser_of_run(__doc__).parse_args().run
    allow_callbacks()
    from taclnet_jax.data import load_volume
    from taclnet_jax.data.normalisation import normalised
    from taclnet_jax.data.resolution import halved_image
    from taclnet_jax.data.windows import split_sections, targets_of
    from taclnet_jax.inference import create_inference, load

    model = load(run)
    settings = model.settings
    volume = load_volume(settings.data)
    infer = create_inference(model.network, views=1, **settings.inference_options)
    image = normalised(halved_image(volume.image) if infer.downsample == 2 else volume.image)
    rows: dict[str, list[dict[str, float]]] = {
        'P': [],
        'P_hat, no labels': [],
        "P_hat where the truth's Betti number says": [],
    }
    for section, stretch in targets_of(split_sections(volume, settings.sampling).test):
        window, output = infer(model.variables, image, section, stretch)
        prob, refined = np.asarray(window[infer.slices // 2]), np.asarray(output.refined)
        cell = ~np.asarray(volume.membrane[section], bool)
        if infer.downsample == 2:
            even = cell[: cell.shape[0] // 2 * 2, : cell.shape[1] // 2 * 2]
            cell = even[::2, ::2] & even[1::2, ::2] & even[::2, 1::2] & even[1::2, 1::2]
        truth = ~cell
        prob, refined = (x[: truth.shape[0], : truth.shape[1]] for x in (prob, refined))
        for maps, scores in zip(
            (prob, refined, gated(prob, refined, truth)), rows.values(), strict=True
        ):
            found = metrics.section_scores(maps, truth)
            found['dice'] = metrics.dice(prob < 0.5, cell)
            scores.append(found)
    titles = ' | '.join(metrics.COLUMNS[name] for name in COLUMNS)
    print(f'| map | {titles} |\n|{"---|" * (1 + len(COLUMNS))}')
    for name, scores in rows.items():
        mean = metrics.summarise(scores)
        print(f'| {name} | ' + ' | '.join(f'{mean[key][0]:.3f}' for key in COLUMNS) + ' |')


if __name__ == '__main__':
    with_messages(main)
