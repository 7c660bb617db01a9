"""Batches of windows: a pure function of (seed, epoch, step), made ahead in the background."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from taclnet_jax.config.data import AugmentSettings
from taclnet_jax.cores import available_cores
from taclnet_jax.data.augmentation import degrade, grey_tables, random_corner, random_symmetry
from taclnet_jax.data.deformation import (
    elastic_displacement,
    inside,
    margin_px,
    misalignment,
    read_mirrored,
    warp,
)
from taclnet_jax.data.normalisation import section_histogram
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import Samples, check_slices, window_sections
from taclnet_jax.errors import InputError
from taclnet_jax.symmetry import symmetry
from taclnet_jax.volumes import section_shape

Batch = dict[str, np.ndarray]

# Threads that make batches: most of their time is spent in NumPy, without the interpreter's lock.
WORKERS = min(8, max(2, len(available_cores()) // 2))


@dataclass(eq=False)
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
        augment: how windows are changed; not at all by default.
        weights: `[samples]` probabilities by which an epoch draws as many samples as there are;
            None draws every one.
        part: (index, number) of equal parts of each batch, of which this one is made.
    """

    volume: Volume
    samples: Samples
    slices: int
    batch_size: int
    seed: int
    augment: AugmentSettings = AugmentSettings()
    weights: np.ndarray | None = None
    part: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        if self.volume.membrane is None:
            raise InputError(f'{self.volume.name} has no membrane labels, which training needs.')
        if len(self.samples) == 0 or self.batch_size < 1:
            raise InputError(
                f'Expected at least one sample and one a batch, found {len(self.samples)} samples '
                f'and batches of {self.batch_size}.'
            )
        stretches = np.unique(self.samples.stretch, axis=0)
        check_slices([range(*ends) for ends in stretches], self.slices)
        self._histogram = lru_cache(maxsize=None)(partial(section_histogram, self.volume.image))
        self._order = lru_cache(maxsize=2)(self._draw_order)

    @property
    def steps_per_epoch(self) -> int:
        """Batches that make up one pass over the samples."""
        return -(-len(self.samples) // self.batch_size)

    def batch(self, epoch: int, step: int, *, displace: bool = False) -> Batch:
        """The batch of this epoch and step, the same whenever and wherever it is asked for.

        Args:
            epoch: counted from 0.
            step: 0 to `steps_per_epoch` - 1.
            displace: also what only phase one may do, `shift` and `elastic`. With them undoing
                `symmetry` does not bring the target's pixels back: not for the ITA memory.

        Returns:
            image: `[batch, slices, height, width]` float32, normalised by section.
            membrane: the same shape, float32, the share of each pixel that is membrane.
            valid: the same shape, uint8, 0 = not labelled or mirrored at the section's border, to
                be left out of the loss.
            sample_id: `[batch]` int32.
            symmetry: `[batch]` int32, the symmetry (`taclnet_jax.symmetry`) of each sample.
        """
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f'Step {step} of {self.steps_per_epoch} in an epoch.')
        order = self._order(epoch)
        index, parts = self.part
        size = self.batch_size // parts
        first = step * self.batch_size + index * size
        windows = [
            self.window(
                # A generator a draw: the samples do not depend on how they are put into batches.
                np.random.default_rng([self.seed, epoch, 1 + draw]),
                int(order[draw % len(order)]),
                displace=displace,
            )
            for draw in range(first, first + size)
        ]
        return {name: np.stack([window[name] for window in windows]) for name in windows[0]}

    def window(self, rng: np.random.Generator, sample: int, *, displace: bool = False) -> Batch:
        """One sample as the generator augments it: an entry of `batch`."""
        samples, a = self.samples, self.augment
        corner = int(samples.y[sample]), int(samples.x[sample])
        target = int(samples.section[sample])
        if displace and a.shift:
            whole = section_shape(self.volume.image, target)
            y, x = random_corner(rng, corner, samples.crop, whole)
            while (y, x) != corner and not self._is_labelled(target, (y, x)):
                # Off a small box of labels: by half as much.
                y, x = (c + int((moved - c) / 2) for c, moved in zip(corner, (y, x), strict=True))
            corner = y, x
        stretch = range(*samples.stretch[sample].tolist())
        sections = window_sections(target, stretch, self.slices)
        if a.reverse_z and rng.integers(2):
            sections.reverse()
        k = random_symmetry(rng, samples.crop) if a.symmetries else 0
        tables = grey_tables(rng, np.stack([self._histogram(z) for z in sections]), a)
        corners = corner + misalignment(rng, self.slices, a.misaligned, a.misaligned_px)
        elastic = elastic_displacement(
            rng, samples.crop, a.elastic if displace else 0, a.elastic_px, a.elastic_spacing_px
        )
        margin = 0 if elastic is None else margin_px(a.elastic_px)
        image, membrane, valid = self._read(sections, corners, margin, tables)
        if elastic is not None:
            image, membrane = warp(image, elastic), warp(membrane, elastic)
            # Of pixels between labelled and unlabelled ones nothing is known.
            valid = warp(valid.astype(np.float32), elastic) > 0.999
        image, membrane, valid = (symmetry(x, k) for x in (image, membrane, valid))
        degrade(rng, image, a)
        return {
            'image': image,
            'membrane': membrane,
            'valid': valid.astype(np.uint8),
            'sample_id': np.int32(sample),
            'symmetry': np.int32(k),
        }

    def epoch(self, epoch: int, first_step: int = 0, *, displace: bool = False) -> Prefetch:
        """The batches of an epoch from `first_step` on, made ahead in the background."""
        return Prefetch(self, epoch, first_step, displace)

    def _draw_order(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch, 0])
        if self.weights is None:
            return rng.permutation(len(self.samples))
        return rng.choice(len(self.samples), len(self.samples), p=self.weights)

    def _is_labelled(self, section: int, corner: tuple[int, int]) -> bool:
        """Whether anything in a crop is."""
        if self.volume.ignore is None:
            return True
        rows, columns = (slice(c, c + n) for c, n in zip(corner, self.samples.crop, strict=True))
        return not self.volume.ignore[section, rows, columns].all()

    def _read(
        self, sections: list[int], corners: np.ndarray, margin: int, tables: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Normalised image, membrane and what is valid, at a corner a section, with a margin."""
        volume = self.volume
        assert volume.membrane is not None  # checked at the start
        height, width = (n + 2 * margin for n in self.samples.crop)
        image = np.empty((self.slices, height, width), np.float32)
        membrane, valid = np.empty_like(image), np.ones(image.shape, bool)
        for j, z in enumerate(sections):
            y, x = (corners[j] - margin).tolist()
            crop = (y, x), (height, width)
            grey = read_mirrored(volume.image, z, *crop)
            np.take(tables[j], grey, out=image[j], mode='clip')
            membrane[j] = read_mirrored(volume.membrane, z, *crop)
            if volume.ignore is not None:
                valid[j] = ~read_mirrored(volume.ignore, z, *crop)
            valid[j] &= inside(*crop, section_shape(volume.image, z))
        return image, membrane, valid


class Prefetch(Iterator[Batch], AbstractContextManager):
    """An epoch's batches in order, a few of them made ahead by threads.

    Iterate over it, best in a `with` block, which stops the threads early where the loop does. An
    exception raised while a batch is made comes out where that batch would have. `seconds_waited`
    is how long the consumer has waited for batches so far.
    """

    def __init__(self, loader: WindowLoader, epoch: int, first_step: int, displace: bool) -> None:
        self.seconds_waited = 0.0
        self._make = lambda step: loader.batch(epoch, step, displace=displace)
        self._steps = iter(range(first_step, loader.steps_per_epoch))
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix='windows')
        self._pending: deque[Future[Batch]] = deque()
        for _ in range(2 * WORKERS):
            self._start_next()

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

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start_next(self) -> None:
        step = next(self._steps, None)
        if step is not None:
            self._pending.append(self._pool.submit(self._make, step))
