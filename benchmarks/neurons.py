"""Ways from membranes in 2-d to neurons in 3-d, compared; constants are chosen on other sections.

    python -m benchmarks.neurons --prob=P.npy --truth=ids.tif --choose=0:10 --score=10:20
    python -m benchmarks.neurons --run=runs/isbi13 --choose=0:40 --score=40:100
    python -m benchmarks.neurons --truth=ids.tif --weakened=0.1 --choose=0:10 --score=10:20
    python -m benchmarks.neurons --synthetic 100 256 256 --weakened=0 --lost=0.05 --score=50:100

P is an array, or predicted by the network of a finished run (of the run's own volume, or of that of
--dataset), or made of the truth: 1 on membranes, of which a share is weakened, blurred, and with
noise; with --weakened=0 the membranes themselves. Of a share of --lost sections P is 1 and 0 in
turn, two of them are neighbours, and none of them is scored. Sections are cut to segments as
prediction does it; a run has its cut, that of an array is chosen as evaluation does it. On the
sections of --choose each constant of each way is tried (and the cut), and that of the lowest VOI
scores those of --score:

  overlap     `taclnet_jax.neurons`: best IoU first, never two segments of a section in a neuron;
              IoU from which segments are joined
  linkage     the same graph, whatever reaches the IoU is joined; the IoU
  smaller     the same of neighbouring sections alone; share of the smaller segment
  waterz      agglomerates segments, grown until they touch, by affinities 1 - max(P, P); its score
              (mean, or a quantile, of the affinities between two) up to which regions are merged
  mutex       the mutex watershed of voxels, with long-range affinities in the section to part
              them; what is taken from the affinities
  none        the segments; and of them the best that joining whole segments reaches: `truth`

ARAND is 1 - the adapted Rand F-score, VOI in bits, over the volume, the membrane of the cut left
out in all ways alike; CREMI is its challenge's score of neurons grown within each section. Peak is
the memory beyond what a process had with the arrays loaded. waterz and mwatershed are in the extra
`benchmark`; ways of which they are missing are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks import resident
from benchmarks.neuron_ways import NEEDS, WAYS, Ids, Stretch
from taclnet_jax import metrics
from taclnet_jax.commandline import with_messages
from taclnet_jax.errors import InputError
from taclnet_jax.metrics.overlaps import Overlaps
from taclnet_jax.volumes import open_array, read_whole

# It imports JAX, which ways need not wait for.
if TYPE_CHECKING:
    from taclnet_jax.inference import Cut


class Row(NamedTuple):
    """What a way reaches with a constant."""

    constant: str
    arand: float
    split: float
    merge: float
    cremi: float
    seconds: float
    peak_mib: float

    @property
    def voi(self) -> float:
        return self.split + self.merge


def rows_of(
    name: str, stretch: Stretch, constants: Sequence[Any], nm: Sequence[float]
) -> list[Row]:
    """What a way reaches with each of the constants."""
    solve, _ = WAYS[name]
    rows, found = [], solve(stretch, constants)
    started = resident.now()
    for constant in constants:
        resident.forget_peak()
        begun = time.process_time()
        ids = next(found)
        seconds = time.process_time() - begun
        peak = resident.peak() - started
        rows.append(_scored(stretch, ids, constant, nm, seconds, peak))
    return rows


def _scored(
    stretch: Stretch, ids: Ids, constant: Any, nm: Sequence[float], seconds: float, peak: float
) -> Row:
    ids = np.where(stretch.cells > 0, ids, 0)
    overlaps = Overlaps.of_sections(zip(stretch.truth, ids, strict=True))
    split, merge = overlaps.variation_of_information()
    grown = np.stack([metrics.grow_segments(section) for section in ids])
    cremi = metrics.cremi_score(stretch.truth, grown, nm).score
    told = ' '.join(map(str, constant)) if isinstance(constant, tuple) else str(constant)
    return Row(told, 1 - overlaps.adapted_rand_fscore(), split, merge, cremi, seconds, peak)


def _silent() -> None:
    """waterz prints what it does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def stretch_of(prob: Any, truth: Any, sections: slice, cut: Cut) -> Stretch:
    """Sections of P and truth, cut to segments."""
    prob = np.asarray(prob[sections], np.float32)
    cells = np.zeros(prob.shape, np.int64)
    for z, section in enumerate(prob):
        pieces = cut.segments(section)
        cells[z] = np.where(pieces > 0, pieces + cells.max(), 0)
    return Stretch(prob, cells, np.asarray(truth[sections]))


def chosen_cut(prob: Any, truth: Any, nm: Sequence[float]) -> Cut:
    """That of the lowest VOI of sections."""
    from taclnet_jax.data.labels import membranes_from_ids
    from taclnet_jax.data.volume import Volume
    from taclnet_jax.evaluation.thresholds import choose_closing, choose_threshold
    from taclnet_jax.inference import Cut

    image, (z_nm, y_nm, x_nm) = np.zeros(truth.shape, np.uint8), nm
    volume = Volume('truth', image, membranes_from_ids(truth), truth, (z_nm, y_nm, x_nm))
    probs = dict(enumerate(np.asarray(prob, np.float32)))
    threshold = choose_threshold(volume, probs)
    return Cut(threshold, choose_closing(volume, probs, threshold))


def weakened(truth: NDArray[Any], share: float, seed: int = 0) -> NDArray[np.float32]:
    """P of the truth's membranes, a share of which, in spots, has less than half of it."""
    from taclnet_jax.data.labels import membranes_from_ids

    rng = np.random.default_rng(seed)
    membranes = membranes_from_ids(truth)
    if share == 0:
        return read_whole(membranes).astype(np.float32)
    prob = np.empty(truth.shape, np.float32)
    for z in range(len(truth)):
        field = ndimage.gaussian_filter(rng.standard_normal(truth.shape[1:]), 1)
        weak = field > np.quantile(field, 1 - share)
        drawn = ndimage.gaussian_filter(np.where(weak, 0.45, 1) * membranes[z], 1)
        prob[z] = np.clip(drawn + 0.05 * rng.standard_normal(drawn.shape), 0, 1)
    return prob


def without_some(
    prob: NDArray[np.float32], truth: NDArray[Any], share: float, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """P and truth after a share of the sections was lost, the first two of which are neighbours."""
    prob, truth, depth = prob.copy(), truth.copy(), len(truth)
    places = np.random.default_rng(seed).choice(depth // 4, round(share * depth) - 1, replace=False)
    lost = sorted([4 * places[0] + 2, *(4 * places + 1)])
    prob[lost[::2]], prob[lost[1::2]], truth[lost] = 1, 0, 0
    return prob, truth


def arrays_of(args: argparse.Namespace) -> tuple[Any, Any, Cut | None]:
    """P and truth as the arguments say, and the cut of a run."""
    if args.run:
        return predicted(args.run, args.dataset)
    if args.synthetic:
        from taclnet_jax.data.synthetic import synthetic_volume

        truth = read_whole(synthetic_volume(args.seed, tuple(args.synthetic)).ids)
    elif args.truth:
        truth = _opened(args.truth)
    else:
        raise InputError('Expected --truth, ids in 3-d, --synthetic or --run; found none of them.')
    prob = _opened(args.prob) if args.prob else weakened(truth, args.weakened)
    if prob.shape != truth.shape:
        raise InputError(
            f'Expected P and truth of one shape, found {prob.shape} and {truth.shape}; crop them.'
        )
    return prob, truth, None


def predicted(run: Path, dataset: str) -> tuple[Any, Any, Cut]:
    """P of a run's own volume, or of another data set's, its ids, and the run's cut."""
    from dataclasses import replace

    from taclnet_jax.data import load_volume
    from taclnet_jax.inference import SEGMENTED, load

    model = load(run)
    data = model.settings.data
    volume = load_volume(replace(data, dataset=dataset) if dataset else data)
    if volume.ids is None:
        raise InputError(f'Expected a data set with ids in 3-d, found {volume.name} without.')
    found = model.predict(read_whole(volume.image))
    return found['refined'], read_whole(volume.ids), model.cut(SEGMENTED)


def _opened(path: Path) -> NDArray[Any]:
    return np.load(path) if path.suffix == '.npy' else read_whole(open_array(path, 'array'))


def _sections(text: str) -> slice:
    first, stop = text.split(':')
    return slice(int(first), int(stop))


def compare(args: argparse.Namespace) -> None:
    """Prints the tables."""
    prob, truth, cut = arrays_of(args)
    if args.lost:
        prob, truth = without_some(prob, truth, args.lost)
    cut = cut or chosen_cut(prob[args.choose], truth[args.choose], args.nm)
    chosen: dict[str, list[Any]] = {}
    print(f'Cut: threshold {cut.threshold}, closing {cut.closing}')
    for title, sections in (('chosen', args.choose), ('scored', args.score)):
        stretch = stretch_of(prob, truth, sections, cut)
        print(f'\nSections {sections.start}:{sections.stop}, constants {title}; ', end='')
        print(f'{len(np.unique(stretch.cells)) - 1} segments\n')
        print('| way | constant | ARAND | VOI | split | merge | CREMI | s | peak, MiB |')
        print('|---' * 9 + '|')
        for name in args.ways:
            module = NEEDS.get(name, 'numpy')
            if importlib.util.find_spec(module) is None:
                print(f'| {name} | needs {module} |' + ' |' * 7)
                continue
            constants = chosen.get(name, WAYS[name][1])
            # A process of its own, of which the memory is that of the way.
            spawn = multiprocessing.get_context('spawn')
            with ProcessPoolExecutor(1, spawn, _silent) as pool:
                rows = pool.submit(rows_of, name, stretch, constants, args.nm).result()
            if name != 'none':
                best = min(range(len(rows)), key=lambda i: rows[i].voi)
                chosen.setdefault(name, [constants[best]])
            for row in rows:
                numbers = f'{row.arand:.3f} | {row.voi:.2f} | {row.split:.2f} | {row.merge:.2f}'
                cost = f'{row.seconds:.1f} | {row.peak_mib:.0f}'
                print(
                    f'| {name} | {row.constant} | {numbers} | {row.cremi:.2f} | {cost} |',
                    flush=True,
                )


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--prob', type=Path, help='P [z, y, x]: .npy or what open_array reads')
    parser.add_argument('--truth', type=Path, help='ids in 3-d, likewise')
    parser.add_argument('--synthetic', type=int, nargs=3, metavar='N', help='truth of that shape')
    parser.add_argument('--seed', type=int, default=0, help='of the truth of --synthetic')
    parser.add_argument('--lost', type=float, default=0, help='share of the sections')
    parser.add_argument('--weakened', type=float, default=0.1, help='share, without --prob')
    parser.add_argument('--run', type=Path, help='folder of a finished run, which has its own cut')
    parser.add_argument('--dataset', default='', help="to predict; the run's own by default")
    parser.add_argument('--choose', type=_sections, default='0:10', help='sections, first:stop')
    parser.add_argument('--score', type=_sections, default='10:20', help='likewise')
    parser.add_argument('--nm', type=float, nargs=3, default=(30, 6, 6), help='voxel size z y x')
    parser.add_argument('--ways', nargs='+', default=list(WAYS), choices=list(WAYS), metavar='WAY')
    args = parser.parse_args()
    with_messages(lambda: compare(args))


if __name__ == '__main__':
    main()
