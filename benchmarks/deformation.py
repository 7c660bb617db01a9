"""Elastic deformation of a window: `warp` against `scipy.ndimage.map_coordinates`.

    python -m benchmarks.deformation

Image (linear) and two labels (nearest) of 3 x 156 x 156 pixels by the same field, in turns in one
process: medians of CPU time, and how much the results differ.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy.ndimage import map_coordinates

from taclnet_jax.config.data import AugmentSettings
from taclnet_jax.data.deformation import elastic_displacement, margin_px, warp


def with_scipy(array: np.ndarray, displacement: np.ndarray, order: int) -> np.ndarray:
    """The crop of each section, as `warp` takes it, by `map_coordinates`."""
    height, width = displacement.shape[1:]
    margin = (array.shape[2] - width) // 2
    places = displacement + margin + np.mgrid[:height, :width]
    return np.stack([map_coordinates(section, places, order=order) for section in array])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--slices', type=int, default=3)
    parser.add_argument('--crop', type=int, default=156)
    parser.add_argument('--repeats', type=int, default=200)
    args = parser.parse_args()
    rng, augment = np.random.default_rng(0), AugmentSettings()
    field = elastic_displacement(
        rng, (args.crop, args.crop), 1, augment.elastic_px, augment.elastic_spacing_px
    )
    assert field is not None  # of probability 1
    side = args.crop + 2 * margin_px(augment.elastic_px)
    image = rng.standard_normal((args.slices, side, side), np.float32)
    labels = tuple(rng.random((2, *image.shape)) < 0.3)
    calls = {
        'warp, image': lambda: warp(image, (), field)[0],
        'warp, image and labels': lambda: warp(image, labels, field),
        'scipy, image': lambda: with_scipy(image, field, order=1),
        'scipy, labels': lambda: [with_scipy(mask, field, order=0) for mask in labels],
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(args.repeats):
        for name, call in calls.items():
            start = time.thread_time()
            call()
            seconds[name].append(time.thread_time() - start)
    ms = {name: 1e3 * float(np.median(times)) for name, times in seconds.items()}
    ms['warp, labels'] = ms['warp, image and labels'] - ms['warp, image']
    print('| window | warp, ms | map_coordinates, ms | share |\n|---|---|---|---|')
    for what in ('image', 'labels'):
        ours, theirs = ms[f'warp, {what}'], ms[f'scipy, {what}']
        print(f'| {what} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |')
    moved, masks = warp(image, labels, field)
    error = float(np.abs(moved - with_scipy(image, field, order=1)).max())
    other = np.mean(
        [np.mean(a != with_scipy(b, field, 0)) for a, b in zip(masks, labels, strict=True)]
    )
    print(
        f'Largest difference of the image {error:.1e}; other labels at {other:.1e} of the pixels.'
    )


if __name__ == '__main__':
    main()
