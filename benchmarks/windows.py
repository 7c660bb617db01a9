r"""What windows of attention change: P_hat of a section in windows against that in one window.

    python -m benchmarks.windows --run=runs/isbi12 --input=snemi3d/train-input.tif \
        --sections=0,50,99 --window_px=256 --halo_px=32

P is the same in both, so all that differs is by the windows' borders. Pixels are of the volume;
windows, halos and cells, the closed pieces of the one window, of those that the network sees.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from taclnet_jax import metrics
from taclnet_jax.commandline import with_messages
from taclnet_jax.inference import load, predict_sections
from taclnet_jax.inference.cut import Cut
from taclnet_jax.volumes import as_uint8_sections, open_array

# A difference that shows in results of 8 bits.
_SHOWN = 1 / 255


def largest_steps(
    whole: NDArray[np.float32], windows: NDArray[np.float32], borders: tuple[list[int], list[int]]
) -> tuple[float, float, float]:
    """Of the differences of neighbouring pixels across borders the largest, and what is added most.

    Args:
        whole, windows: a map `[height, width]` from one window, and from many.
        borders: first rows, and first columns, of windows but the first.

    Returns:
        In windows, in one, and the most by which one is larger in windows.
    """
    ours, theirs = (
        np.concatenate(
            [
                np.abs(np.diff(image, axis=axis).take([b - 1 for b in places], axis=axis)).ravel()
                for axis, places in enumerate(borders)
            ]
        )
        for image in (windows, whole)
    )
    added = ours - theirs
    return float(ours.max(initial=0)), float(theirs.max(initial=0)), float(added.max(initial=0))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--run', type=Path, required=True, help='folder of a finished run')
    parser.add_argument('--input', required=True, help='volume, as --mode=predict takes it')
    parser.add_argument('--sections', default='0', help='numbers of sections, with commas')
    parser.add_argument('--window_px', type=int, default=256, help='of the windows')
    parser.add_argument('--halo_px', type=int, default=32, help='what they see around them')
    flags = parser.parse_args()

    model = load(flags.run)
    image = as_uint8_sections(open_array(flags.input), flags.input)
    factor = model.inference.downsample
    seen = tuple(n // factor for n in image.shape[1:])
    one = replace(model.inference, window_px=max(seen), window_halo_px=flags.halo_px)
    many = replace(one, window_px=flags.window_px)
    grid = many.windows((seen[0], seen[1]))
    rows, columns = (
        [factor * side.own(k).start for k in range(1, side.count)] for side in grid.sides
    )
    cut: Cut = model.cut('P_hat_closed')
    print(
        f'{grid.sides[0].count} x {grid.sides[1].count} windows of {flags.window_px} px with '
        f'{flags.halo_px} px around them, of {seen[0]} x {seen[1]}'
    )
    titles = (
        'section',
        'pixels that differ, o',
        'P_hat',
        'largest difference, o',
        'P_hat',
        'mean, P_hat',
        'step across borders, windows',
        'one window',
        'added',
        'cells',
        'larger than a window',
        'ARI',
        'VOI',
    )
    print('| ' + ' | '.join(titles) + ' |')
    print('|---' * len(titles) + '|')
    targets = [(int(z), range(image.shape[0])) for z in flags.sections.split(',')]
    pairs = zip(
        *(predict_sections(infer, model.variables, image, targets) for infer in (one, many)),
        strict=True,
    )
    for whole, windows in pairs:
        o, refined = (
            np.abs(a - b)
            for a, b in ((windows.attention, whole.attention), (windows.refined, whole.refined))
        )
        cells, pieces = (cut.segments(p.refined) for p in (whole, windows))
        spans = [
            max(part.stop - part.start for part in box)
            for box in ndimage.find_objects(cells)
            if box
        ]
        values = [
            f'{whole.section}',
            f'{np.mean(o > _SHOWN):.1%}',
            f'{np.mean(refined > _SHOWN):.1%}',
            f'{o.max():.3f}',
            f'{refined.max():.3f}',
            f'{refined.mean():.4f}',
            *(f'{s:.3f}' for s in largest_steps(whole.refined, windows.refined, (rows, columns))),
            f'{len(spans)}',
            f'{sum(span > factor * flags.window_px for span in spans)}',
            f'{metrics.adapted_rand_fscore(cells, pieces):.4f}',
            '{:.4f} + {:.4f}'.format(*metrics.variation_of_information(cells, pieces)),
        ]
        print('| ' + ' | '.join(values) + ' |', flush=True)


if __name__ == '__main__':
    with_messages(main)
