"""Critical points: both backends against `gudhi.CubicalComplex` and, if installed, `cripser`.

    TACLNET_DATA_DIR=/data python -m benchmarks.topology --cores 1
    TACLNET_DATA_DIR=/data python -m benchmarks.topology --cores 2

Crops of a real membrane likelihood (likelihoods/snemi3d_slice0.png, 8 bit), and the same plus noise
far below its grey levels, which has all values different and hundreds of times the pairs. Without
TACLNET_DATA_DIR a smooth random field takes the likelihood's place. All ratios are of one run: the
fastest of several calls each. `--cores` pins the process. A few minutes; `--quick` takes seconds.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from taclnet_jax.commandline import allow_callbacks


def call_times(call: Callable[[], Any], seconds: float) -> list[float]:
    """Of the calls within some seconds, one at least; the first, which compiles, is left out."""
    call()
    times, end = [], time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        call()
        stop = time.perf_counter()
        times.append(stop - start)
        if stop > end:
            return times


def best_time(call: Callable[[], Any], seconds: float) -> float:
    """The fastest of `call_times`."""
    return min(call_times(call, seconds))


def likelihood(size: int, section: int = 0) -> np.ndarray:
    """A float32 membrane likelihood `[size, size]` in [0, 1], of 8-bit values; sections 0 to 5."""
    folder = os.environ.get('TACLNET_DATA_DIR')
    if folder:
        from PIL import Image

        name = f'snemi3d_slice{section}.png'
        image = np.asarray(Image.open(os.path.join(folder, 'likelihoods', name)))
        start = (image.shape[0] - size) // 2
        return image[start : start + size, start : start + size].astype(np.float32) / 255
    from scipy import ndimage

    field = ndimage.gaussian_filter(np.random.default_rng(section).normal(size=(size, size)), 4)
    return np.round(255 * (field - field.min()) / np.ptp(field)).astype(np.float32) / 255


def with_cubical_complex(prob: np.ndarray, min_persistence: float = 0.1) -> np.ndarray:
    """The critical points by gudhi's general code, that the package's are compared with."""
    import gudhi

    framed = np.pad(-prob.astype(np.float64), 1, constant_values=-2.0)
    complex_ = gudhi.CubicalComplex(top_dimensional_cells=framed)
    complex_.compute_persistence(min_persistence=min_persistence)
    finite, _ = complex_.cofaces_of_persistence_pairs()
    points = np.zeros(framed.shape, bool)
    if len(finite) > 1:
        # Cells are numbered in Fortran order.
        points[np.unravel_index(finite[1][:, 0], framed.shape, order='F')] = True
    return points[1:-1, 1:-1]


def with_cripser(prob: np.ndarray) -> Any:
    import cripser

    return cripser.computePH(np.pad(-prob.astype(np.float64), 1, constant_values=-2.0), maxdim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--cores', type=int, default=1, help='pin the process to so many cores')
    parser.add_argument('--quick', action='store_true', help='small images, few repetitions')
    args = parser.parse_args()
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    allow_callbacks()  # again, now that the cores are fewer

    import jax

    from taclnet_jax.topology import critical_points

    try:
        import cripser  # noqa: F401

        others = {'cripser': with_cripser}
    except ImportError:
        others = {}
        print('cripser is not installed and left out.')
    sizes = (39, 156, 256) if args.quick else (39, 64, 156, 256, 512, 1024)
    seconds = 0.2 if args.quick else 1.0
    gudhi_call, xla_call = (
        jax.jit(lambda x, name=name: critical_points(x, backend=name)) for name in ('gudhi', 'xla')
    )
    print(f'{args.cores} core(s), {jax.devices()[0].device_kind}. Times in ms for each image;')
    print('(x) is how many times faster than gudhi.CubicalComplex.')
    names = ['CubicalComplex', *others, 'gudhi', 'gudhi, batch', 'xla']
    print(f'{"image":>18} {"pairs":>6} {"batch":>5} ' + ''.join(f'{n:>19}' for n in names))
    rng = np.random.default_rng(0)
    for size in sizes:
        for kind in ('8 bit', 'noise'):
            prob = likelihood(size)
            if kind == 'noise':
                prob = np.float32(0.9) * prob + rng.random(prob.shape, np.float32) / 256
            batch = 30 if size <= 256 else 4
            one = jax.numpy.asarray(prob)
            many = jax.numpy.asarray(np.tile(prob, (batch, 1, 1)))
            base = best_time(lambda p=prob: with_cubical_complex(p), seconds)
            times = [base]
            for call in others.values():
                times.append(best_time(lambda c=call, p=prob: c(p), seconds))
            times.append(best_time(lambda x=one: gudhi_call(x).block_until_ready(), seconds))
            times.append(
                best_time(lambda x=many: gudhi_call(x).block_until_ready(), seconds) / batch
            )
            times.append(best_time(lambda x=one: xla_call(x).block_until_ready(), seconds))
            same = with_cubical_complex(prob).sum() == gudhi_call(one).sum() == xla_call(one).sum()
            assert same, 'the counts of critical points differ'
            count = int(with_cubical_complex(prob, 0).sum())
            row = ''.join(f'{1e3 * t:11.2f} ({base / t:5.1f})' for t in times)
            print(f'{f"{size}x{size} {kind}":>18} {count:6d} {batch:5d} {row}', flush=True)


if __name__ == '__main__':
    main()
