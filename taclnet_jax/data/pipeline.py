"""Batches of windows: a pure function of (seed, epoch, step), made ahead in the background."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from types import TracebackType
from typing import Any

import numpy as np

from taclnet_jax.data.augmentation import (
    Augmentation,
    grey_tables,
    random_corner,
    random_symmetry,
)
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import Samples, check_slices, normalise, window_sections
from taclnet_jax.errors import InputError
from taclnet_jax.symmetry import symmetry

Batch = dict[str, np.ndarray]


class WindowLoader:
    """Training batches of normalised, augmented windows.

    Every epoch draws all samples in a new order. The last batch is filled up from the beginning of
    that order, so some samples are drawn twice in an epoch and every one at least once.

    Args:
        volume: image and membrane labels.
        samples: the grid of crops; its index is the sample id.
        slices: odd number of sections in a window.
        batch_size: samples a batch.
        seed: everything random follows from it.
        augment: an `Augmentation`, or anything with its fields (a ConfigDict).
    """

    def __init__(
        self,
        volume: Volume,
        samples: Samples,
        slices: int,
        batch_size: int,
        seed: int,
        augment: Any = Augmentation(),  # noqa: B008 (frozen)
    ) -> None:
        if volume.membrane is None:
            raise InputError(f'{volume.name} has no membrane labels, which training needs.')
        if len(samples) == 0 or batch_size < 1:
            raise InputError(
                f'Expected at least one sample and one a batch, found {len(samples)} samples and '
                f'batches of {batch_size}.'
            )
        check_slices([range(*run) for run in np.unique(samples.run, axis=0)], slices)
        self.volume = volume
        self.samples = samples
        self.slices = slices
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        self._histograms: dict[int, np.ndarray] = {}
        self._order = lru_cache(maxsize=2)(self._draw_order)

    @property
    def steps_per_epoch(self) -> int:
        """Batches that draw every sample at least once."""
        return -(-len(self.samples) // self.batch_size)

    def batch(self, epoch: int, step: int, *, shift: bool = False) -> Batch:
        """The batch of this epoch and step, the same whenever and wherever it is asked for.

        Args:
            epoch: counted from 0.
            step: 0 to `steps_per_epoch` - 1.
            shift: move each crop at random about its place in the grid. The sample id then no
                longer stands for one crop: not for use with the ITA memory.

        Returns:
            image: `[batch, slices, height, width]` float32, normalised by section.
            membrane: the same shape, uint8, 1 = membrane.
            sample_id: `[batch]` int32.
            symmetry: `[batch]` int32, the symmetry (`taclnet_jax.symmetry`) of each sample.
        """
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f'Step {step} of {self.steps_per_epoch} in an epoch.')
        height, width = self.samples.crop
        shape = (self.batch_size, self.slices, height, width)
        batch: Batch = {
            'image': np.empty(shape, np.float32),
            'membrane': np.empty(shape, np.uint8),
            'sample_id': np.empty(self.batch_size, np.int32),
            'symmetry': np.empty(self.batch_size, np.int32),
        }
        order = self._order(epoch)
        for i in range(self.batch_size):
            draw = step * self.batch_size + i
            # A generator a draw: the samples do not depend on how they are put into batches.
            rng = np.random.default_rng([self.seed, epoch, 1 + draw])
            sample = int(order[draw % len(order)])
            self._write_sample(rng, sample, shift, batch, i)
        return batch

    def epoch(self, epoch: int, first_step: int = 0, *, shift: bool = False) -> Prefetch:
        """The batches of an epoch from `first_step` on, made ahead in the background."""
        return Prefetch(self, epoch, first_step, shift)

    def _draw_order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch, 0]).permutation(len(self.samples))

    def _write_sample(
        self, rng: np.random.Generator, sample: int, shift: bool, batch: Batch, i: int
    ) -> None:
        samples, augment = self.samples, self.augment
        corner = int(samples.y[sample]), int(samples.x[sample])
        if shift:
            corner = random_corner(rng, corner, samples.crop, samples.section_shape)
        run = range(*samples.run[sample].tolist())
        sections = window_sections(int(samples.section[sample]), run, self.slices)
        if augment.reverse_z and rng.integers(2):
            sections.reverse()
        k = random_symmetry(rng, samples.crop) if augment.symmetries else 0
        tables = grey_tables(rng, np.stack([self._histogram(z) for z in sections]), augment)
        rows, columns = (slice(c, c + n) for c, n in zip(corner, samples.crop, strict=True))
        membrane = self.volume.membrane
        assert membrane is not None  # checked at the start
        for j, z in enumerate(sections):
            grey = symmetry(np.asarray(self.volume.image[z, rows, columns]), k)
            np.take(tables[j], grey, out=batch['image'][i, j], mode='clip')
            batch['membrane'][i, j] = symmetry(np.asarray(membrane[z, rows, columns]), k)
        batch['sample_id'][i] = sample
        batch['symmetry'][i] = k

    def _histogram(self, z: int) -> np.ndarray:
        if z not in self._histograms:
            self._histograms[z] = np.bincount(self.volume.image[z].reshape(-1), minlength=256)
        return self._histograms[z]


class Prefetch:
    """An epoch's batches in order, a few of them made ahead by threads.

    Iterate over it, best in a `with` block, which stops the threads early where the loop does. An
    exception raised while a batch is made comes out where that batch would have.

    Attributes:
        seconds_waited: how long the consumer has waited for batches so far.
    """

    def __init__(
        self, loader: WindowLoader, epoch: int, first_step: int, shift: bool, ahead: int = 4
    ) -> None:
        self.seconds_waited = 0.0
        self._make = lambda step: loader.batch(epoch, step, shift=shift)
        self._steps = iter(range(first_step, loader.steps_per_epoch))
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix='windows')
        self._pending: deque[Future[Batch]] = deque()
        for _ in range(ahead):
            self._start_next()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if not self._pending:
            self.close()
            raise StopIteration
        start = time.perf_counter()
        try:
            batch = self._pending.popleft().result()
        except BaseException:
            self.close()
            raise
        self.seconds_waited += time.perf_counter() - start
        self._start_next()
        return batch

    def close(self) -> None:
        """Stops the threads; batches not yet taken are dropped."""
        self._pending.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _start_next(self) -> None:
        step = next(self._steps, None)
        if step is not None:
            self._pending.append(self._pool.submit(self._make, step))


def section_windows(
    volume: Volume, runs: Sequence[range], slices: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Whole sections for evaluation and prediction.

    Args:
        volume: the image; its labels are not looked at.
        runs: runs of target sections; no window reaches beyond its run.
        slices: odd number of sections in a window.

    Yields:
        (target, window): the section's number and `[slices, height, width]` float32, normalised.
    """
    check_slices(runs, slices)
    section = lru_cache(maxsize=slices)(lambda z: normalise(volume.image[z]))
    for run in runs:
        for target in run:
            yield target, np.stack([section(z) for z in window_sections(target, run, slices)])


def read_window(volume: Volume, target: int, run: range, slices: int) -> np.ndarray:
    """The window around one target section, `[slices, height, width]` float32, normalised."""
    return np.stack([normalise(volume.image[z]) for z in window_sections(target, run, slices)])
