"""The region graph, against overlaps counted one by one."""

from __future__ import annotations

import tracemalloc
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from stacks import numbered_through

from taclnet_jax.errors import InputError
from taclnet_jax.neurons import REACH, RegionGraph, region_graph
from taclnet_jax.volumes import LazySections

SMALL_STACKS = npst.arrays(
    np.int64,
    st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5)),
    elements=st.integers(0, 3),
).map(numbered_through)


def overlaps_by_definition(stack: np.ndarray) -> dict[tuple[int, int], int]:
    """Pixels in both segments, by their ids."""
    found = {}
    for z, distance in product(range(len(stack)), range(1, REACH + 1)):
        if z + distance < len(stack):
            upper, lower = stack[z], stack[z + distance]
            for a, b in product(np.unique(upper), np.unique(lower)):
                pixels = int(((upper == a) & (lower == b)).sum())
                if a and b and pixels:
                    found[int(a), int(b)] = pixels
    return found


@settings(deadline=None)
@given(SMALL_STACKS, st.sampled_from([1, 10**6, 2**40]))
def test_it_holds_every_overlap(stack: np.ndarray, scale: int) -> None:
    stack = scale * stack  # ids that lie far apart are numbered in another way
    if not stack.any():
        return
    graph = region_graph(stack.astype(np.uint64))
    ids, sizes = np.unique(stack[stack > 0], return_counts=True)
    np.testing.assert_array_equal(graph.ids, ids)
    np.testing.assert_array_equal(graph.sizes, sizes)
    np.testing.assert_array_equal(
        graph.sections, [np.flatnonzero((stack == i).any((1, 2)))[0] for i in ids]
    )
    edges = [(int(a), int(b)) for a, b in graph.ids[graph.edges]]
    expected = overlaps_by_definition(stack)
    assert dict(zip(edges, graph.overlaps.tolist(), strict=True)) == expected
    for (a, b), iou in zip(edges, graph.iou, strict=True):
        footprints = [(stack == i).any(axis=0) for i in (a, b)]
        assert iou == pytest.approx(
            (footprints[0] & footprints[1]).sum() / np.sum(footprints[0] | footprints[1])
        )


def test_sections_are_read_once_and_in_order() -> None:
    stack = numbered_through(np.ones((7, 2, 3), np.int64))
    seen = []

    def read(z: int, *crop: slice) -> np.ndarray:
        seen.append(z)
        return stack[z][crop]

    region_graph(LazySections(stack.shape, stack.dtype, read))
    assert seen == list(range(7))


def test_memory_does_not_grow_with_the_stack() -> None:
    def peak(depth: int) -> int:
        section = np.arange(256 * 256).reshape(256, 256) // 4096

        def read(z: int, *crop: slice) -> np.ndarray:
            return (section + 16 * z + 1)[crop]

        tracemalloc.start()
        region_graph(LazySections((depth, 256, 256), np.int64, read))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(64) < peak(8) + 8 * 256 * 256  # a section


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    graph = region_graph(numbered_through(np.ones((3, 2, 2), np.int64)))
    graph.save(tmp_path / 'graph.npz')
    read = RegionGraph.load(tmp_path / 'graph.npz')
    for name, array in vars(graph).items():
        np.testing.assert_array_equal(array, vars(read)[name])
        assert array.dtype == vars(read)[name].dtype


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 cut off', b'not an archive'])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / 'graph.npz').write_bytes(content)
    with pytest.raises(InputError, match='graph.npz'):
        RegionGraph.load(tmp_path / 'graph.npz')
    np.savez(tmp_path / 'other.npz', something=np.ones(3))
    with pytest.raises(InputError, match='other.npz'):
        RegionGraph.load(tmp_path / 'other.npz')


@pytest.mark.parametrize(
    ('stack', 'told'),
    [
        (np.array([[[1, 2]], [[2, 3]]]), 'found id 2 in sections 0 and 1'),
        (np.array([[[5, 2]], [[6, 7]], [[5, 8]]]), 'found id 5 in sections 0 and 2'),
        (np.zeros((2, 3, 3), np.uint8), 'found none'),
        (np.full((2, 3, 3), 0.5, np.float32), 'found float32'),
        (np.array([[[-1, 2]]]), 'found -1 in section 0'),
    ],
)
def test_what_are_no_segments_is_refused(stack: np.ndarray, told: str) -> None:
    with pytest.raises(InputError, match=told):
        region_graph(stack)


def test_numbers_may_fall_from_section_to_section() -> None:
    graph = region_graph(np.array([[[9, 8]], [[3, 3]], [[5, 1]]]))
    assert graph.ids.tolist() == [8, 9, 3, 1, 5]


def test_a_flipped_bit_ends_in_one_message_or_in_a_graph(tmp_path: Path) -> None:
    graph = region_graph(numbered_through(np.ones((3, 2, 2), np.int64)))
    graph.save(tmp_path / 'graph.npz')
    whole, refused = (tmp_path / 'graph.npz').read_bytes(), 0
    for place in np.random.default_rng(0).integers(0, 8 * len(whole), 300).tolist():
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        (tmp_path / 'graph.npz').write_bytes(damaged)
        try:
            RegionGraph.load(tmp_path / 'graph.npz')
        except InputError:
            refused += 1
    assert refused > 100
