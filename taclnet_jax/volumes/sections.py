"""Arrays `[z, y, x]` of which a section, or a crop of one, is read when it is asked for."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike

from taclnet_jax.errors import InputError
from taclnet_jax.progress import Progress

ReadCrop = Callable[[int, slice, slice], np.ndarray]
Triple = tuple[float, float, float]
Box = tuple[int, int, int, int, int, int]
"""First voxel and end (exclusive) along z, y and x."""

_KINDS = 'biuf'
_LARGEST_ITEM = 8  # bytes: long doubles differ from machine to machine
_SLAB_BYTES = 2**28
_LARGEST_ARRAY = 2**56  # bytes


class Sections(Protocol):
    """What a volume needs of an array; numpy arrays `[z, y, x]` have it too."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(sections, height, width)."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Type of the voxels."""
        ...

    def __getitem__(self, key: Any) -> np.ndarray:
        """`[height, width]` for the key z, a crop of it for (z, rows, columns) with slices."""
        ...


class Geometry(NamedTuple):
    """Size and place of a voxel in nm (z, y, x), None where that is not said."""

    resolution_nm: Triple | None = None
    offset_nm: Triple | None = None


class Content(NamedTuple):
    """What is to be written."""

    array: Sections  # of a type that the format can store
    dataset: str  # its name within the file or folder; '' where it has none
    chunk: tuple[int, int, int]  # (z, y, x) voxels
    geometry: Geometry


class LazySections:
    """Sections that a function reads.

    Args:
        shape: (sections, height, width).
        dtype: of the voxels.
        read: called with z and the slices of rows and columns, all within the shape and of step
            1; returns the crop, which may share memory with what others are given. It must be
            thread-safe.
        section_shape: gives (height, width) of section z, where `shape` is only the largest.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: Any,
        read: ReadCrop,
        section_shape: Callable[[int], tuple[int, int]] | None = None,
    ) -> None:
        depth, height, width = (int(size) for size in shape)
        self.shape = depth, height, width
        self.dtype = np.dtype(dtype).newbyteorder('=')
        self._read = read
        self.section_shape = section_shape or (lambda z: (height, width))

    def __getitem__(self, key: int | tuple[int, slice, slice]) -> np.ndarray:
        """A section or crop in native byte order; the caller may change it."""
        z, rows, columns = key if isinstance(key, tuple) else (key, slice(None), slice(None))
        if not -self.shape[0] <= z < self.shape[0]:
            raise IndexError(f'There is no section {z}; there are {self.shape[0]}.')
        height, width = self.section_shape(int(z) % self.shape[0])
        wanted = range(height)[rows], range(width)[columns]
        if not all(wanted):
            return np.empty([len(numbers) for numbers in wanted], self.dtype)
        ends = (sorted((numbers[0], numbers[-1])) for numbers in wanted)
        crop = self._read(int(z) % self.shape[0], *(slice(low, high + 1) for low, high in ends))
        row_step, column_step = (numbers.step for numbers in wanted)
        return np.array(crop[::row_step, ::column_step], self.dtype, order='C')


class StoredArray(LazySections):
    """An array in a file, folder or store; nothing but its description is in memory.

    Attributes:
        path: of the file or folder, or the address of the store.
        dataset: the array in it; '' where there is only one.
        shape: (sections, height, width).
        dtype: of the voxels, in native byte order.
        resolution_nm, offset_nm: voxel size, and position of the first voxel, (z, y, x) in nm; None
            where the file does not say.
        numbers: of the sections, in the names of their files; None where there are none.
    """

    def __init__(
        self,
        path: str,
        dataset: str,
        shape: Sequence[int],
        dtype: Any,
        read: ReadCrop,
        geometry: Geometry,
        numbers: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(shape, dtype, read)
        self.numbers = numbers
        self.path = path
        self.dataset = dataset
        self.resolution_nm, self.offset_nm = geometry

    @property
    def gaps(self) -> tuple[int, ...]:
        """Sections before which, by their numbers, others are missing; () if these keep no step."""
        steps = np.diff(self.numbers or ())
        usual = np.median(steps) if len(steps) else 0
        if 2 * np.count_nonzero(steps == usual) <= len(steps):
            return ()
        return tuple((np.flatnonzero(steps > usual) + 1).tolist())

    @property
    def name(self) -> str:
        """Path and dataset, for messages."""
        return place(self.path, self.dataset)

    def __repr__(self) -> str:
        return f'StoredArray({self.name!r}, shape={self.shape}, dtype={self.dtype})'


def place(path: str, dataset: str) -> str:
    """Names a dataset in messages."""
    return f'{path}:{dataset}' if dataset else path


def section_shape(sections: Sections, z: int) -> tuple[int, int]:
    """(height, width) of a section: that of all, but in stacks of several sizes end to end."""
    if isinstance(sections, LazySections):
        return sections.section_shape(z)
    height, width = sections.shape[1:]
    return height, width


def read_whole(array: Sections) -> np.ndarray:
    """All sections, which are of one size, in memory, `[z, y, x]` in native byte order."""
    whole = np.empty(array.shape, array.dtype.newbyteorder('='))
    for z in range(array.shape[0]):
        whole[z] = array[z]
    return whole


def mapped(
    sections: Sections, dtype: DTypeLike, function: Callable[[np.ndarray], np.ndarray]
) -> LazySections:
    """The same stack with a function of each voxel, applied as it is read."""
    return alike(sections, dtype, lambda z, *crop: function(sections[z, *crop]))


def alike(sections: Sections, dtype: DTypeLike, read: ReadCrop) -> LazySections:
    """Sections of the sizes of others, which a function reads."""
    return LazySections(sections.shape, dtype, read, partial(section_shape, sections))


def cropped(sections: Sections, first: Sequence[int], shape: Sequence[int]) -> LazySections:
    """The box of this shape in a stack that begins at the voxel `first`, (z, y, x)."""
    z_first, *corner = first

    def read(z: int, *crop: slice) -> np.ndarray:
        rows, columns = (slice(s.start + n, s.stop + n) for s, n in zip(crop, corner, strict=True))
        return sections[z + z_first, rows, columns]

    return LazySections(shape, sections.dtype, read)


def listed(names: Sequence[object], shown: int) -> str:
    """The first of some names, and how many more there are, for messages."""
    more = f' and {len(names) - shown} more' if len(names) > shown else ''
    return ', '.join(map(str, names[:shown])) + more


def check_stack(shape: tuple[int, ...], dtype: np.dtype, what: str, name: str) -> None:
    """Refuses arrays without a voxel, and complex numbers, text, objects and the like."""
    if dtype.kind not in _KINDS or dtype.itemsize > _LARGEST_ITEM:
        raise InputError(
            f'Expected the {what} {name} as integers, booleans or floats of up to 64 bits, found '
            f'{dtype}; convert it.'
        )
    if 0 in shape:
        raise InputError(f'The {what} {name} is empty: shape {tuple(shape)}.')
    if math.prod(map(int, shape)) * dtype.itemsize > _LARGEST_ARRAY:
        raise InputError(
            f'The {what} {name} claims a shape of {tuple(shape)}, more than any disk holds; its '
            'metadata are damaged. Copy or export it again.'
        )


@contextlib.contextmanager
def problems_of(name: str, fault: str) -> Iterator[None]:
    """Turns what a library raises over a file into messages.

    Args:
        name: of the file, and what it holds.
        fault: what it may be instead of damaged: 'no PNG'.

    Raises:
        InputError: there was any exception; damaged headers make libraries fail in many ways.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            message = (
                f'Cannot read the {name}: {error.strerror}; check its permissions, and that no '
                'other program writes to it.'
            )
        elif 'imagecodecs' in str(error):
            message = (
                f'The {name} is compressed in a way that needs the package imagecodecs; install '
                'it, or save it uncompressed or with zlib (deflate).'
            )
        else:
            message = f'The {name} is damaged or {fault} ({error}); copy or export it again.'
        raise InputError(message) from error


def concatenated(stacks: Sequence[Sections]) -> LazySections:
    """Stacks laid end to end. Each section keeps its size; `shape` has the largest."""
    ends = np.cumsum([s.shape[0] for s in stacks])

    def place(z: int) -> tuple[Sections, int]:
        i = int(np.searchsorted(ends, z, side='right'))
        return stacks[i], z - int(ends[i]) + stacks[i].shape[0]

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        stack, inside = place(z)
        return stack[inside, rows, columns]

    height, width = (max(s.shape[axis] for s in stacks) for axis in (1, 2))
    shape = int(ends[-1]), height, width
    return LazySections(shape, stacks[0].dtype, read, lambda z: section_shape(*place(z)))


def pasted(
    shape: Sequence[int], dtype: DTypeLike, fill: Any, pieces: Sequence[tuple[Sections, Box]]
) -> LazySections:
    """A stack of one value, but for boxes, each of which is taken from a stack of this shape."""

    def read(z: int, *crop: slice) -> np.ndarray:
        result = np.full([s.stop - s.start for s in crop], fill, dtype)
        for stack, (first, stop, *sides) in pieces:
            there = [
                slice(max(s.start, low), min(s.stop, high))
                for s, low, high in zip(crop, sides[::2], sides[1::2], strict=True)
            ]
            if first <= z < stop and all(s.start < s.stop for s in there):
                inside = (
                    slice(t.start - s.start, t.stop - s.start)
                    for s, t in zip(crop, there, strict=True)
                )
                result[*inside] = stack[z, *there]
        return result

    return LazySections(shape, dtype, read)


def only_sections(stack: Sections, first: int, stop: int) -> Sections:
    """The sections `first` to `stop` - 1 of a stack: a view of what is in memory."""
    if isinstance(stack, np.ndarray):
        return stack[first:stop]
    return LazySections(
        (stop - first, *stack.shape[1:]),
        stack.dtype,
        lambda z, *crop: stack[z + first, *crop],
        lambda z: section_shape(stack, z + first),
    )


def slabs(content: Content) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Cuts what is to be written into as many rows of chunks as 256 MiB hold, and one at least.

    Yields:
        Sections, rows, and what is there, `[sections, rows, width]`, until the next is asked for.
    """
    array, chunk = content.array, content.chunk
    depth, height, width = array.shape
    fit = chunk[1] * max(1, _SLAB_BYTES // (chunk[0] * chunk[1] * width * array.dtype.itemsize))
    buffer = np.empty((chunk[0], min(fit, height), width), array.dtype)
    for first in range(0, depth, chunk[0]):
        sections = slice(first, min(first + chunk[0], depth))
        for top in range(0, height, fit):
            rows = slice(top, min(top + fit, height))
            slab = buffer[: sections.stop - first, : rows.stop - top]
            for place, z in enumerate(range(first, sections.stop)):
                slab[place] = array[z, rows, slice(None)]
            yield sections, rows, slab


@contextlib.contextmanager
def shown(array: Sections, what: str) -> Iterator[LazySections]:
    """The same sections, with progress shown as they are read."""
    begun: set[int] = set()
    with contextlib.closing(Progress(0, array.shape[0], 'section')) as bar:

        def read(z: int, rows: slice, columns: slice) -> np.ndarray:
            if z not in begun:
                begun.add(z)
                bar.step(what)
            return array[z, rows, columns]

        yield LazySections(array.shape, array.dtype, read)
