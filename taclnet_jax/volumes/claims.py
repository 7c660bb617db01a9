"""What files claim to hold, against what is there, before memory is asked for it."""

import math
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from taclnet_jax.errors import InputError, doubt

_LARGEST_CHUNK = 2**31  # bytes; all of it is in memory at once
_PRECOMPUTED = re.compile(r'(-?\d+--?\d+_){2}-?\d+--?\d+(\.gz)?')


def check_chunk(chunk: Sequence[int], dtype: np.dtype, what: str, name: str) -> None:
    """Refuses chunks that cannot be in memory."""
    if (size := math.prod(map(int, chunk)) * dtype.itemsize) > _LARGEST_CHUNK:
        raise InputError(
            f'Expected the {what} {name} in chunks of up to {_LARGEST_CHUNK / 1e9:.1f} GB, each of '
            f'which is read as a whole; found {tuple(map(int, chunk))}, {size / 1e9:.1f} GB. Save '
            'it in smaller chunks.'
        )


def check_chunks(there: int, grid: Sequence[int], fill: Any, what: str, name: str) -> None:
    """Says how many chunks of a grid are not stored."""
    chunks = math.prod(grid)
    if lost := max(chunks - there, 0):
        doubt(
            f'{lost} of {chunks} chunks of the {what} {name} are not stored, and are read '
            f'as {fill}. That is right where it is blank; if not, copy or export it again.'
        )


def check_claim(claimed: int, there: int, inflation: int) -> None:
    """Refuses more bytes than a compression can make of those that a file has.

    Before memory is asked for them: a damaged or hostile header may claim anything.

    Raises:
        ValueError: which `problems_of` explains.
    """
    if claimed > inflation * (there + 1024):
        raise ValueError(f'it claims {claimed} bytes, and has {there}')


def chunk_files(folder: str, grid: Sequence[int]) -> int:
    """Counts the files below a folder that are chunks of a grid, by their names.

    They are numbered along each axis on disk, as in zarr (c/0/2/1, 0.2.1) and N5 (1/2/0), or named
    for their voxels (0-64_64-128_0-16, precomputed).
    """
    there = 0
    for inside, _, files in os.walk(folder):
        for file in files:
            key = os.path.relpath(os.path.join(inside, file), folder).removeprefix('c')
            index = [int(n) for n in re.split('[./]', key) if n.isdecimal()]
            there += _PRECOMPUTED.fullmatch(key) is not None or (
                len(index) == len(grid)
                and all(n < count for n, count in zip(index, grid, strict=True))
            )
    return there
