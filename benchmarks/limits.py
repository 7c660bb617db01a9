r"""What limits DICE and Betti errors: scores of the truth itself and of what is far from borders.

    python -m benchmarks.limits --run=runs/reproduce/isbi12_unet_fold3_seed0_slices3

On the validation sections of a finished run, at the threshold of the lowest VOI on them: the truth
halved and interpolated back, as maps of a network that sees half the resolution are; the truth
displaced a little, as another annotator might have drawn the same membranes; P, before and after
closing; and the DICE of P without the pixels near a true border. Betti errors stand beside those of
patches whose outer pixels are overwritten by the frame, as the authors' code does it. `--other`
names the run of another system of the same fold: what both do wrong in the same way.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.transform import downscale_local_mean

from benchmarks.finished import Finished, Maps, parser_of_run
from taclnet_jax import metrics
from taclnet_jax.commandline import with_messages
from taclnet_jax.data.deformation import elastic_displacement, margin_px, warp
from taclnet_jax.data.resolution import doubled
from taclnet_jax.errors import InputError
from taclnet_jax.inference import Cut

COLUMNS = ('dice', 'ari', 'voi', 'betti_error')
DISTANCES_PX = (1, 2, 4)
DISPLACEMENTS_PX = (1, 2, 3)
SPACING_PX = 24
"""Of the lattice of random displacements, of which pixels between are interpolated."""


def border_distance(membrane: np.ndarray) -> np.ndarray:
    """Of each pixel to the nearest one on the other side of a border, in pixels."""
    return np.where(membrane, distance_transform_edt(membrane), distance_transform_edt(~membrane))


def displaced(membrane: np.ndarray, length_px: float, rng: np.random.Generator) -> np.ndarray:
    """The mask under a smooth random displacement whose root mean square is `length_px`."""
    field = elastic_displacement(rng, membrane.shape, 1, 1, SPACING_PX)
    assert field is not None
    field *= length_px / np.sqrt(np.mean(np.sum(field**2, axis=0)))
    framed = np.pad(membrane, margin_px(np.abs(field).max()), mode='reflect')
    return warp(framed[None].astype(np.float32), field)[0]


def membranes(finished: Finished, maps: Maps, cut: Cut) -> dict[int, np.ndarray]:
    """Of maps that are cut so, by section."""
    return {z: cut.closed(x, finished.volume.ignored(z)) >= cut.threshold for z, x in maps.items()}


def betti_between(finished: Finished, some: Maps, others: Maps) -> float:
    """The mean Betti error of the membranes of some against those of others."""
    settings, ignored = finished.model.settings.evaluate, finished.volume.ignored
    options = {
        'patch': settings.betti_patch,
        'count': settings.betti_patches,
        'seed': settings.betti_seed,
    }
    return float(
        np.mean([metrics.betti_error(some[z], others[z], ignored(z), **options) for z in some])
    )


def main() -> None:
    """Prints the tables."""
    parser = parser_of_run(__doc__)
    parser.add_argument('--other', type=Path, help='folder of another one, of the same fold')
    args = parser.parse_args()
    finished = Finished.load(args.run)
    volume = finished.volume
    assert volume.membrane is not None
    probs = finished.maps()
    truth = {z: np.asarray(volume.membrane[z], bool) for z in probs}
    even = tuple(slice(size // 2 * 2) for size in volume.shape[1:])
    halved = {
        z: doubled(downscale_local_mean(m[even].astype(np.float32), (2, 2)), m.shape)
        for z, m in truth.items()
    }
    rng = np.random.default_rng(0)
    moved = {
        f'truth, displaced by {length} px': {
            z: displaced(membrane, length, rng) for z, membrane in truth.items()
        }
        for length in DISPLACEMENTS_PX
    }
    cut, closed = finished.best_cuts(probs)

    titles = [*(metrics.COLUMNS[name] for name in COLUMNS), "Betti error, authors' patches"]
    print('| map | ' + ' | '.join(titles) + ' |')
    print('|---' * (1 + len(titles)) + '|')
    within = finished.model.settings.evaluate.betti_patch - 2
    for name, maps, of_map in (
        ('truth, halved and interpolated back', halved, Cut(0.5)),
        *((name, maps, Cut(0.5)) for name, maps in moved.items()),
        ('P', probs, cut),
        ('P, closed', probs, closed),
    ):
        scores = finished.scores(maps, of_map)
        values = [scores[key] for key in COLUMNS]
        values.append(finished.scores(maps, of_map, betti_patch=within)['betti_error'])
        print(f'| {name} | ' + ' | '.join(f'{value:.3f}' for value in values) + ' |')

    print('\n| wrong pixels of P no farther from a true border | share | DICE of the others |')
    print('|---|---|---|')
    distances = {z: border_distance(membrane) for z, membrane in truth.items()}
    for distance in DISTANCES_PX:
        shares, others = [], []
        for z, prob in probs.items():
            near, ignored = distances[z] <= distance, volume.ignored(z)
            unlabelled = np.zeros(near.shape, bool) if ignored is None else ignored
            wrong = ((prob >= cut.threshold) != truth[z]) & ~unlabelled
            shares.append(np.mean(near[wrong]))
            ignore = near | unlabelled
            others.append(metrics.dice(prob < cut.threshold, ~truth[z], ignore=ignore))
        print(f'| {distance} px | {np.mean(shares):.0%} | {np.mean(others):.3f} |')

    if args.other:
        other = Finished.load(args.other, volume)
        if other.windows.keys() != probs.keys():
            raise InputError(
                f'Expected a run with the same validation sections; {args.other} has others.'
            )
        other_probs = other.maps()
        one = membranes(finished, probs, closed)
        two = membranes(other, other_probs, other.best_cuts(other_probs)[1])
        print('\n| Betti error, P closed | |\n|---|---|')
        for name, some, against in (
            ('this run, truth', one, truth),
            ('other run, truth', two, truth),
            ('this run, other run', one, two),
        ):
            print(f'| {name} | {betti_between(finished, some, against):.3f} |')


if __name__ == '__main__':
    with_messages(main)
