"""One EM volume: image, labels and voxel size, in memory or read section by section."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from taclnet_jax.errors import InputError
from taclnet_jax.volumes import Sections, only_sections, read_whole
from taclnet_jax.volumes.sections import Box, concatenated, mapped, pasted

OTHER_SIZE = 1.5
"""From so many times the voxel size on, a volume looks otherwise to a network."""

SAME_SIZE = 1.01
"""Up to here two voxel sizes are one, rounded."""

_SUMMED = 8  # sections, of a stack that is not in memory


@dataclass(frozen=True, eq=False)
class Volume:
    """Sections of tissue, `[z, y, x]`, with what is known about them.

    A membrane is True or, float32, the share of a pixel that is. Parts are stretches of consecutive
    sections that belong together, in order, such as CREMI's samples laid end to end; those of
    another part may be of another size (`taclnet_jax.volumes.section_shape`).

    Raises:
        InputError: labels of another size than the image, wrong types or a voxel size of 0.
    """

    name: str  # of the data set, for messages and file names
    image: Sections  # uint8
    membrane: Sections | None  # None without labels
    ids: Sections | None  # of instances, 0 = none; None where only membranes are labelled
    resolution_nm: tuple[float, float, float]  # voxel size (z, y, x)
    ignore: Sections | None = None  # True = not labelled: neither trained on nor scored
    unscored: Sections | None = None  # True = trained on as labelled, not scored
    parts: tuple[range, ...] = ()  # one over all if not given
    gaps: tuple[int, ...] = ()  # sections before which others were lost
    held_out: tuple[range, ...] = ()  # parts that are for testing alone
    boxes: tuple[Box, ...] = ()  # outside which nothing is labelled; () = all is

    def __post_init__(self) -> None:
        shape = tuple(self.image.shape)
        if len(shape) != 3 or 0 in shape or self.image.dtype != np.uint8:
            raise InputError(
                f'{self.name}: expected the image as uint8 [z, y, x], not empty; found '
                f'{self.image.dtype} of shape {shape}.'
            )
        for what, labels, kind, kinds in (
            ('membrane labels', self.membrane, (np.bool_, np.float32), 'booleans or float32'),
            ('instance ids', self.ids, np.integer, 'integers'),
            ('ignored regions', self.ignore, np.bool_, 'booleans'),
            ('unscored regions', self.unscored, np.bool_, 'booleans'),
        ):
            if labels is None:
                continue
            if tuple(labels.shape) != shape:
                raise InputError(
                    f'{self.name}: image {shape} and {what} {tuple(labels.shape)} differ in size '
                    '[z, y, x]; give the two stacks of the same region.'
                )
            if not issubclass(labels.dtype.type, kind):
                raise InputError(f'{self.name}: expected {what} as {kinds}, found {labels.dtype}.')
        if len(self.resolution_nm) != 3 or not all(0 < nm < np.inf for nm in self.resolution_nm):
            raise InputError(
                f'{self.name}: expected a voxel size (z, y, x) in nm above 0, found '
                f'{tuple(self.resolution_nm)}.'
            )
        if not self.parts:
            object.__setattr__(self, 'parts', (range(shape[0]),))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(sections, height, width)."""
        sections, height, width = self.image.shape
        return sections, height, width

    def only(self, first: int, stop: int) -> Volume:
        """The sections `first` to `stop` - 1 alone, which are counted from 0 anew.

        Raises:
            InputError: there are no such sections.
        """
        depth = self.shape[0]
        if not 0 <= first < stop <= depth:
            raise InputError(
                f'{self.name}: expected config.sections to be two numbers from 0 to {depth}, the '
                f'first below the second; found {first} and {stop}.'
            )
        chosen: dict[str, Any] = {
            name: only_sections(stack, first, stop) for name, stack in self.stacks()
        }
        for name in ('parts', 'held_out'):
            kept = (range(max(p.start, first), min(p.stop, stop)) for p in getattr(self, name))
            chosen[name] = tuple(range(p.start - first, p.stop - first) for p in kept if p)
        chosen['gaps'] = tuple(z - first for z in self.gaps if first < z < stop)
        boxes = (
            (max(a, first) - first, min(b, stop) - first, *sides) for a, b, *sides in self.boxes
        )
        chosen['boxes'] = tuple(box for box in boxes if box[0] < box[1])
        if self.boxes and not chosen['boxes']:
            raise InputError(
                f'{self.name}: nothing is labelled in the sections {first} to {stop - 1} of '
                'config.sections; choose others, or see config.custom.boxes.'
            )
        return dataclasses.replace(self, **chosen)

    def in_memory(self) -> Volume:
        """The same volume, all of it read."""
        read: dict[str, Any] = {name: read_whole(stack) for name, stack in self.stacks()}
        return dataclasses.replace(self, **read)

    @cached_property
    def identity(self) -> str:
        """A sum of its shape and contents: the same data, wherever they lie.

        Of what is read section by section eight sections count, spread over it.
        """
        digest = hashlib.sha256(f'{self.shape} {self.resolution_nm}'.encode())
        known = self.labelled(range(self.shape[0]))
        spread = set(np.linspace(0, len(known) - 1, _SUMMED, dtype=int).tolist())
        for place, z in enumerate(known):
            for _, stack in self.stacks():
                if isinstance(stack, np.ndarray) or place in spread:
                    digest.update(np.ascontiguousarray(stack[z]))
        return digest.hexdigest()

    def stacks(self) -> Iterator[tuple[str, Sections]]:
        """Those that there are, by name."""
        for name in ('image', 'membrane', 'ids', 'ignore', 'unscored'):
            if (stack := getattr(self, name)) is not None:
                yield name, stack

    def labelled(self, stretch: range) -> Sequence[int]:
        """The sections of a stretch with a box in which something is labelled, in order."""
        if not self.boxes:
            return stretch
        within = (range(max(b[0], stretch.start), min(b[1], stretch.stop)) for b in self.boxes)
        return sorted({z for sections in within for z in sections})

    def labels(self, section: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Membrane, ids and ignored pixels of a section of a labelled volume; None where none."""
        assert self.membrane is not None
        ids = None if self.ids is None else self.ids[section]
        return self.membrane[section], ids, self.ignored(section)

    def has_cells(self, section: int) -> bool:
        """Whether a labelled section has pixels of a cell, beside membrane, to be scored."""
        membrane, ids, ignore = self.labels(section)
        cells = membrane < 1 if ids is None else (membrane < 1) & (ids != 0)
        return bool(np.any(cells if ignore is None else cells & ~ignore))

    def ignored(self, section: int) -> np.ndarray | None:
        """The mask of what is not scored in a section; None where all is."""
        masks = [stack[section] for stack in (self.ignore, self.unscored) if stack is not None]
        return np.any(masks, axis=0) if masks else None


def end_to_end(name: str, volumes: Sequence[Volume], held_out: Collection[int]) -> Volume:
    """Labelled volumes laid end to end, each a part; those of some numbers are for testing alone.

    Each keeps the size of its sections; the voxel size is that of the first.
    """
    ends = np.cumsum([0, *(volume.shape[0] for volume in volumes)]).tolist()
    parts = [range(*ends[i : i + 2]) for i in range(len(volumes))]
    boxes: list[Box] = []
    if any(volume.boxes for volume in volumes):
        for volume, part in zip(volumes, parts, strict=True):
            depth, height, width = volume.shape
            for z0, z1, *sides in volume.boxes or ((0, depth, 0, height, 0, width),):
                y0, y1, x0, x1 = sides
                boxes.append((z0 + part.start, z1 + part.start, y0, y1, x0, x1))
    stacks: dict[str, Any] = {}
    for kind in ('image', 'membrane', 'ids', 'ignore', 'unscored'):
        own = [getattr(volume, kind) for volume in volumes]
        if kind in ('ignore', 'unscored') and any(x is not None for x in own):
            nothing = (pasted(volume.shape, bool, False, ()) for volume in volumes)
            own = [rest if x is None else x for x, rest in zip(own, nothing, strict=True)]
        if own[0] is not None:
            # Ids of several types go into one that holds all (`own_labels`).
            same = len({x.dtype for x in own}) == 1
            stacks[kind] = concatenated(
                own if same else [mapped(x, np.int64, np.array) for x in own]
            )
    return dataclasses.replace(
        volumes[0],
        name=name,
        parts=tuple(parts),
        gaps=tuple(z + p.start for v, p in zip(volumes, parts, strict=True) for z in v.gaps),
        held_out=tuple(parts[number] for number in sorted(held_out)),
        boxes=tuple(boxes),
        **stacks,
    )
