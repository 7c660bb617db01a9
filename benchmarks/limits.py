r"""What limits DICE and Betti errors: scores of the truth itself and of what is far from borders.

    python -m benchmarks.limits --run=runs/reproduce/isbi12_unet_fold1_seed0_slices3

On the validation sections of a finished run, at the threshold of the lowest VOI on them: the truth
halved and interpolated back, as maps of a network that sees half the resolution are; P, before and
after closing; and the DICE of P without the pixels near a true border. Betti errors stand beside
those of patches whose outer pixels are overwritten by the frame, as the authors' code does it.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.transform import downscale_local_mean

from benchmarks.finished import Finished, parser_of_run
from taclnet_jax import metrics
from taclnet_jax.commandline import with_messages
from taclnet_jax.data.resolution import doubled
from taclnet_jax.inference import Cut

COLUMNS = ('dice', 'ari', 'voi', 'betti_error')
DISTANCES_PX = (1, 2, 4)


def border_distance(membrane: np.ndarray) -> np.ndarray:
    """Of each pixel to the nearest one on the other side of a border, in pixels."""
    return np.where(membrane, distance_transform_edt(membrane), distance_transform_edt(~membrane))


def main() -> None:
    """Prints the tables."""
    finished = Finished.load(parser_of_run(__doc__).parse_args().run)
    volume = finished.volume
    assert volume.membrane is not None
    probs = finished.maps()
    truth = {z: np.asarray(volume.membrane[z], bool) for z in probs}
    even = tuple(slice(size // 2 * 2) for size in volume.shape[1:])
    halved = {
        z: doubled(downscale_local_mean(m[even].astype(np.float32), (2, 2)), m.shape)
        for z, m in truth.items()
    }
    cut, closed = finished.best_cuts(probs)

    titles = [*(metrics.COLUMNS[name] for name in COLUMNS), "Betti error, authors' patches"]
    print('| map | ' + ' | '.join(titles) + ' |')
    print('|---' * (1 + len(titles)) + '|')
    within = finished.model.settings.evaluate.betti_patch - 2
    for name, maps, of_map in (
        ('truth, halved and interpolated back', halved, Cut(0.5)),
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


if __name__ == '__main__':
    with_messages(main)
