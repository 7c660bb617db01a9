"""How a job is divided into windows and blocks."""

import math

from taclnet_jax.errors import InputError
from taclnet_jax.inference import Inference
from taclnet_jax.prediction.job import Index, Job

Part = tuple[slice, slice]
"""Rows and columns."""


class Layout:
    """How a job is divided: the region that is predicted, its windows, its blocks.

    The region is made of all windows that have pixels in the box, or so close to it that maps of
    another resolution are interpolated from them; its pixels are the network's. Everything but the
    network sees it as if sections ended with it.

    Args:
        job: what is to be predicted.
        shape: (sections, height, width) of the volume, in pixels of the model's size.
        infer: of the network.

    Raises:
        InputError: a section is smaller than two pixels.

    Attributes:
        sections: of the volume.
        region: rows and columns of a section as the network sees it.
        fine: the same of a section in pixels of the model's size.
        grid: the region's windows.
    """

    def __init__(self, job: Job, shape: tuple[int, ...], infer: Inference) -> None:
        self.factor = infer.downsample
        if min(shape[1:]) < self.factor or (min(shape[1:]) < 2 and job.zoom != (1, 1)):
            raise InputError(
                f'Expected sections of at least 2x2 pixels, found {shape[1]}x{shape[2]} pixels of '
                "the model's size. Is the voxel size right?"
            )
        self.sections = range(*job.box[0])
        self.block = job.block
        whole = infer.windows((shape[1] // self.factor, shape[2] // self.factor))
        region, fine = [], []
        for (first, last), zoom, size, side in zip(
            job.box[1:], job.zoom, shape[1:], whole.sides, strict=True
        ):
            margin = _margin(zoom, self.factor)
            start = min(max(math.floor(first * zoom / self.factor) - margin, 0), side.size - 1)
            end = min(math.ceil(last * zoom / self.factor) + margin, side.size)
            owners = side.owners(slice(start, max(end, start + 1)))
            own = slice(side.own(owners[0]).start, side.own(owners[-1]).stop)
            region.append(own)
            # An odd last row or column, which has no pixel of the network, repeats its neighbour.
            stop = size if own.stop == side.size else self.factor * own.stop
            fine.append(slice(self.factor * own.start, stop))
        self.region: Part = region[0], region[1]
        self.fine: Part = fine[0], fine[1]
        self.grid = infer.windows((_length(region[0]), _length(region[1])))

    @property
    def counts(self) -> Index:
        """Blocks along z, y and x."""
        depth, windows = self.block
        rows, columns = (side.count for side in self.grid.sides)
        return -(-len(self.sections) // depth), -(-rows // windows), -(-columns // windows)

    def seen_sections(self, slices: int, depth: int) -> range:
        """All sections of the volume, of so many, that the network sees."""
        reach = slices // 2
        return range(max(self.sections.start - reach, 0), min(self.sections.stop + reach, depth))

    def sections_of(self, index: Index) -> range:
        """Of a block, counted from the first of the job."""
        depth = self.block[0]
        return range(index[0] * depth, min((index[0] + 1) * depth, len(self.sections)))

    def part_of(self, index: Index) -> Part:
        """The pixels of a block in the region."""
        y, x = (
            slice(side.own(i * n).start, side.own(min((i + 1) * n, side.count) - 1).stop)
            for i, n, side in zip(index[1:], (self.block[1],) * 2, self.grid.sides, strict=True)
        )
        return y, x

    def fine_part(self, part: Part) -> Part:
        """A part of the region in the model's pixels, counted from the region's first."""
        ends = self.grid.shape
        y, x = (
            slice(self.factor * p.start, _length(f) if p.stop == end else self.factor * p.stop)
            for p, f, end in zip(part, self.fine, ends, strict=True)
        )
        return y, x

    def in_volume(self, part: Part, zoom: tuple[float, float], shape: tuple[int, ...]) -> Part:
        """Where a part of the region lies in the volume, in its own voxels.

        Args:
            part: of the region.
            zoom: pixels of the model's size in a voxel, along y and x.
            shape: of the volume.
        """
        y, x = (
            slice(
                math.floor((f.start + p.start) / scale),
                min(math.ceil((f.start + p.stop) / scale), size),
            )
            for p, f, scale, size in zip(
                self.fine_part(part), self.fine, zoom, shape[1:], strict=True
            )
        )
        return y, x


def _margin(zoom: float, factor: int) -> int:
    """What maps are interpolated from beyond a box, in the network's pixels."""
    # See `resampled`; one more, as sections have whole pixels.
    fine = 0 if zoom == 1 else 2 + math.ceil(2 * max(zoom - 1, 0))
    return math.ceil(fine / factor) + factor - 1


def _length(part: slice) -> int:
    return part.stop - part.start
