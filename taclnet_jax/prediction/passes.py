"""What is done to a block: grey values, the network's P, attention, and the maps and segments.

Each pass reads what the one before left on disk, of its block and of the blocks around it, and
writes its own block alone.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

import jax
import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from taclnet_jax.data.normalisation import histogram, normalised, section_sample
from taclnet_jax.data.resolution import doubled, halved_image
from taclnet_jax.data.windows import cut
from taclnet_jax.errors import InputError
from taclnet_jax.files import replacing
from taclnet_jax.inference import SEGMENTED, Inference, Model
from taclnet_jax.inference.windows import Window, shifted
from taclnet_jax.metrics import segment
from taclnet_jax.prediction.job import Index, Job
from taclnet_jax.prediction.layout import Layout, Part
from taclnet_jax.prediction.source import model_of, open_image, open_input
from taclnet_jax.prediction.store import chunk_files, chunk_side, load_kept, open_store, read_store
from taclnet_jax.progress import with_progress

_GREY = 256  # grey values


class Passes:
    """A job as one process sees it.

    Its passes are `measure`, `predict`, `attend` and `finish`, in this order.

    Args:
        scratch: folder of the job, with job.json and active.npz in it.
        model: its network, if it is loaded already.
    """

    def __init__(self, scratch: Path, model: Model | None = None) -> None:
        self.scratch = scratch
        self.job = Job.read(scratch / 'job.json')
        self.model = model_of(self.job, model)
        self.infer = in_blocks(self.model.inference)
        stored = open_input(self.job)
        image = open_image(self.job, stored)
        self.stretches = cut(range(image.shape[0]), stored.gaps)
        self.layout = Layout(self.job, image.shape, self.infer)
        self.grey = halved_image(image) if self.infer.downsample == 2 else image
        # Files are closed once nothing refers to them: so what this refers to does not to it.
        histograms, first = self._histograms, self.seen.start
        self.image = normalised(self.grey, lambda z: read_store(histograms, z - first)[:_GREY])
        self.active = load_kept(scratch / 'active.npz', 'active')['active']

    @property
    def seen(self) -> range:
        """All sections of the volume that the network sees."""
        return self.layout.seen_sections(self.infer.slices, self.stretches[-1].stop)

    def files(self, name: str, index: Index) -> Iterator[Path]:
        """Those that hold what a pass has made of a block."""
        z = self.layout.sections_of(index)
        if name == 'measure':
            yield from chunk_files(self._histograms, self._rows(index), range(_GREY + 1))
            return
        part = self.layout.part_of(index)
        if name == 'predict':
            yield from chunk_files(self._prob, range(self.infer.slices), z, *part)
        elif name == 'attend':
            for window in self._windows(index):
                y, x = self._slot(window)
                yield from chunk_files(self._attention, z, range(y, y + 1), range(x, x + 1))
        else:
            for store in self.results.values():
                yield from chunk_files(store, z, *self.layout.fine_part(part))
            if 'segments' in self.job.names:
                yield border_file(self.scratch, index)

    @property
    def measured(self) -> Index:
        """Blocks of `measure`, of whole sections, along z, y and x."""
        return -(-len(self.seen) // self.job.block[0]), 1, 1

    def measure(self, index: Index) -> None:
        """The grey values of whole sections, which the network gets with mean 0 and variance 1."""
        for row in self._rows(index):
            try:
                measured = self._measured(row)
            except InputError as error:
                raise InputError(f'Section {self.seen[row]}: {error}') from error
            self._histograms[row].write(measured).result()

    def _rows(self, index: Index) -> range:
        """Of a block of `measure`, in what it stores: a row for each section that is seen."""
        depth = self.job.block[0]
        return range(len(self.seen))[index[0] * depth : (index[0] + 1) * depth]

    def _measured(self, row: int) -> NDArray[np.int64]:
        """How often a section has each grey value, and a checksum of it."""
        sample = section_sample(self.grey, self.seen[row])
        return np.append(histogram(sample), crc32(b''.join(block.tobytes() for block in sample)))

    def remeasured(self) -> list[int]:
        """Sections whose grey values are no longer those that were measured."""
        before = read_store(self._histograms)
        known = np.flatnonzero(before.any(axis=1)).tolist()
        return [
            self.seen[row]
            for row in with_progress(known, len(known), 'comparing', 'section')
            if not np.array_equal(self._measured(row), before[row])
        ]

    def predict(self, index: Index) -> None:
        """P of all sections that the network sees with each of the block's."""
        part = self.layout.part_of(index)
        y, x = (
            slice(p.start + region.start, p.stop + region.start)
            for p, region in zip(part, self.layout.region, strict=True)
        )
        store = self._prob  # opened before the threads ask for it

        def section(z: int) -> None:
            target = self.layout.sections[z]
            stretch = next(s for s in self.stretches if target in s)
            prob = self.infer.prob(self.model.variables, self.image, target, stretch, (y, x))
            store[:, z, *part].write(prob).result()

        with ThreadPoolExecutor(jax.local_device_count()) as pool:  # one for each to compute
            list(pool.map(section, self.layout.sections_of(index)))

    def attend(self, index: Index) -> None:
        """The attention o of each of the block's windows, over all that it sees."""
        for z in self.layout.sections_of(index):
            for window in self._windows(index):
                prob = read_store(self._prob, slice(None), z, *window.seen)
                o = np.asarray(self.infer.attend(prob).attention)
                y, x = self._slot(window)
                self._attention[z, y : y + o.shape[0], x : x + o.shape[1]].write(o).result()

    def finish(self, index: Index) -> None:
        """The maps, and the closed segments, numbered within each section of the block."""
        part = self.layout.fine_part(self.layout.part_of(index))
        shape = [p.stop - p.start for p in part]
        lines: list[tuple[NDArray[np.int32], ...]] = []
        for z in self.layout.sections_of(index):
            maps = {name: np.zeros(shape, self.job.dtype) for name in self.job.map_names}
            closed = np.ones(shape, np.float32)
            for window in self._windows(index):
                own = self.layout.fine_part(window.own)
                y, x = (shifted(o, p) for o, p in zip(own, part, strict=True))
                found = self._finished(window, z)
                for name in maps:
                    maps[name][y, x] = self._stored(found[name])
                closed[y, x] = found.get('closed', 1)
            for name, values in maps.items():
                self.results[name][z, *part].write(values).result()
            if 'segments' in self.job.names:
                pieces = segment(closed, self.model.cut(SEGMENTED).threshold)
                self.results['segments'][z, *part].write(pieces.astype(np.uint32)).result()
                lines.append((pieces.max(), pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]))
        if lines:
            sides = zip(BORDERS, zip(*lines, strict=True), strict=True)
            with replacing(border_file(self.scratch, index)) as path, path.open('wb') as file:
                stacked: dict[str, Any] = {name: np.stack(values) for name, values in sides}
                np.savez(file, **stacked)

    def _finished(self, window: Window, z: int) -> dict[str, NDArray[np.float32]]:
        """Maps of a window's own pixels, in the volume's resolution, and the closed one."""
        prob = read_store(self._prob, self.infer.slices // 2, z, *window.seen)
        found = {'membrane': prob}
        if self.job.attends:
            found['attention'] = o = self.layout.grid.blended(
                window.seen, lambda other, inside: self._read(other, inside, z)
            )
            found['refined'] = np.clip(self.infer.alpha * o + prob, 0, 1)
        seen, own = self.layout.fine_part(window.seen), self.layout.fine_part(window.own)
        shape = tuple(s.stop - s.start for s in seen)
        y, x = (shifted(o, s) for o, s in zip(own, seen, strict=True))
        if self.infer.downsample == 2:
            found = {name: doubled(values, shape) for name, values in found.items()}
        if 'segments' in self.job.names:
            found['closed'] = self.model.cut(SEGMENTED).closed(found['refined'], None)
        return {name: values[y, x] for name, values in found.items()}

    @cached_property
    def results(self) -> dict[str, ts.TensorStore]:
        """What `finish` writes, by name, `[sections, height, width]` of the region."""
        shape = [len(self.layout.sections), *(f.stop - f.start for f in self.layout.fine)]
        side = self.infer.downsample * chunk_side(self.infer.window_px)
        dtypes = {name: self.job.dtype for name in self.job.names} | {'segments': 'uint32'}
        return {
            name: open_store(self.scratch / name, shape, dtypes[name], (1, side, side))
            for name in self.job.names
        }

    @cached_property
    def _histograms(self) -> ts.TensorStore:
        return open_store(
            self.scratch / 'histograms', (len(self.seen), _GREY + 1), np.int64, (1, _GREY + 1)
        )

    @cached_property
    def _prob(self) -> ts.TensorStore:
        slices, side = self.infer.slices, chunk_side(self.infer.window_px)
        shape = slices, len(self.layout.sections), *self.layout.grid.shape
        return open_store(self.scratch / 'prob', shape, np.float32, (slices, 1, side, side))

    @cached_property
    def _attention(self) -> ts.TensorStore:
        """A place for each window, as neighbours overlap."""
        y, x = self.layout.grid.sides
        shape = len(self.layout.sections), y.count * y.longest, x.count * x.longest
        return open_store(self.scratch / 'attended', shape, np.float32, (1, y.longest, x.longest))

    def _slot(self, window: Window) -> tuple[int, int]:
        y, x = (
            place * side.longest
            for place, side in zip(window.place, self.layout.grid.sides, strict=True)
        )
        return y, x

    def _read(self, window: Window, inside: Part, z: int) -> NDArray[np.float32] | None:
        """Attention of a window; None if it is left out."""
        if not self._is_active(window, z):
            return None
        y, x = (
            slice(corner + i.start, corner + i.stop)
            for corner, i in zip(self._slot(window), inside, strict=True)
        )
        return read_store(self._attention, z, y, x)

    def _windows(self, index: Index) -> Iterator[Window]:
        """Those of a block that are not left out."""
        for window in self.layout.grid.owners(self.layout.part_of(index)):
            if self.active[index[0], *window.place]:
                yield window

    def _is_active(self, window: Window, z: int) -> bool:
        return bool(self.active[z // self.job.block[0], *window.place])

    def _stored(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.rint(255 * values) if self.job.dtype == 'uint8' else values


def in_blocks(infer: Inference) -> Inference:
    """With tiles of the network that fit into the attention's windows, and so into blocks."""
    window, stride = infer.window_px, infer.stride
    tile = math.ceil(window / math.ceil(window / infer.tile_px) / stride) * stride
    return replace(infer, tile_px=tile)


BORDERS = ('count', 'top', 'bottom', 'left', 'right')
"""Of a block's segments: the largest number in each section, and the numbers along its sides."""


def border_file(scratch: Path, index: Index) -> Path:
    """Holds a block's `BORDERS`, each with the sections along its first axis."""
    return scratch / 'borders' / ('_'.join(map(str, index)) + '.npz')
