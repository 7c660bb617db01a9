"""The Betti matching error against hand-made cases and a computation of induced matchings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from metric_cases import MASKS, membrane_section, no_deadline
from scipy import ndimage

from taclnet_jax.metrics import betti_matching_error

# An independent computation, by the definition: pixels are closed squares that enter one after
# the other, all of the membrane before all of the cell; intervals come from reducing the boundary
# matrix, those of the images of H(A) -> H(A or B) from the matrix with rows in the order of A and
# columns in the order of the union (Cohen-Steiner et al. 2009, Bauer and Schmahl 2023).
# Coordinates are doubled: (odd, odd) is a pixel, (even, even) a vertex.


def dimension_of(cell):
    return cell[0] % 2 + cell[1] % 2


def neighbours(cell, axis):
    step = np.eye(2, dtype=int)[axis]
    return [tuple(np.subtract(cell, step)), tuple(np.add(cell, step))]


def entries(membrane, ranks):
    """The cells with when they enter: (whether after all membrane, rank of their pixel)."""
    height, width = membrane.shape
    entry = {}
    for y in range(height):
        for x in range(width):
            time = (not membrane[y, x], ranks[y, x])
            for cell in np.ndindex(3, 3):
                cell = (2 * y + cell[0], 2 * x + cell[1])
                entry[cell] = min(entry.get(cell, time), time)
    return entry


def in_order(entry):
    return sorted(entry, key=lambda cell: (entry[cell], dimension_of(cell), cell))


def deaths_by_birth(row_entry, column_entry):
    row = {cell: i for i, cell in enumerate(in_order(row_entry))}
    cells = list(row)
    reduced, deaths = {}, {}
    for cell in in_order(column_entry):
        column = 0
        for axis in (0, 1):
            if cell[axis] % 2:
                for face in neighbours(cell, axis):
                    column ^= 1 << row[face]
        while column and column.bit_length() - 1 in reduced:
            column ^= reduced[column.bit_length() - 1]
        if column:
            reduced[column.bit_length() - 1] = column
            deaths[cells[column.bit_length() - 1]] = cell
    return deaths


def lasting(entry, dimension):
    """Intervals from membrane to cell: {birth: death}, None for the one that never dies."""
    deaths = deaths_by_birth(entry, entry)
    dead = set(deaths.values())
    return {
        cell: deaths.get(cell)
        for cell in entry
        if dimension_of(cell) == dimension
        and cell not in dead
        and not entry[cell][0]
        and (cell not in deaths or entry[deaths[cell]][0])
    }


def unmatched(a, b, ranks, dimension):
    a, b = (np.pad(membrane, 1, constant_values=True) for membrane in (a, b))
    union = entries(a | b, ranks)
    lasting_in_union = set(lasting(union, dimension).values())
    total, reached = 0, []
    for membrane in (a, b):
        entry = entries(membrane, ranks)
        births = lasting(entry, dimension)
        image = deaths_by_birth(entry, union)
        reached.append({image.get(birth) for birth in births} & lasting_in_union)
        total += len(births)
    return total - 2 * len(reached[0] & reached[1])


def row_by_row(a, _):
    return np.arange((a.shape[0] + 2) * (a.shape[1] + 2)).reshape(a.shape[0] + 2, -1)


def largest_overlap_last(a, b):
    """Ranks of the framed pixels, by the size of the overlap of cells that they are in."""
    overlaps, count = ndimage.label(np.pad(~a & ~b, 1))
    sizes = np.bincount(overlaps.ravel(), minlength=count + 1)
    sizes[0] = 0
    order = np.lexsort((np.arange(overlaps.size), -overlaps.ravel(), sizes[overlaps].ravel()))
    ranks = np.empty(overlaps.size, int)
    ranks[order] = np.arange(overlaps.size)
    return ranks.reshape(overlaps.shape)


SMALL_MASKS = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6).flatmap(
    lambda shape: hnp.arrays(np.bool_, (2, *shape))
)


@settings(deadline=None, max_examples=40)
@given(SMALL_MASKS)
def test_unmatched_islands_are_those_of_induced_matchings(masks):
    a, b = masks
    assert betti_matching_error(a, b)[0] == unmatched(a, b, row_by_row(a, b), 0)


@settings(deadline=None, max_examples=40)
@given(SMALL_MASKS)
def test_unmatched_pieces_are_those_of_induced_matchings(masks):
    a, b = masks
    assert betti_matching_error(a, b)[1] == unmatched(a, b, largest_overlap_last(a, b), 1)


@pytest.mark.parametrize('seed', [3, 4, 10])  # the order of the overlaps matters in these
def test_sections_agree_with_induced_matchings(seed):
    prob, true = membrane_section(22, 14, seed)
    predicted = np.roll(prob, 3, axis=1) >= 0.55
    found = betti_matching_error(predicted, true)
    assert found[0] == unmatched(predicted, true, row_by_row(true, true), 0)
    assert found[1] == unmatched(predicted, true, largest_overlap_last(predicted, true), 1) > 0


def walls(*columns, size=20):
    membrane = np.zeros((size, size), bool)
    membrane[:, list(columns)] = True
    return membrane


def test_a_missing_wall_and_a_false_one_cost_one_each():
    assert betti_matching_error(walls(), walls(10)) == (0, 1)
    assert betti_matching_error(walls(10), walls()) == (0, 1)
    assert betti_matching_error(walls(5, 10), walls(10, 15)) == (0, 2)


def test_a_gap_joins_two_pieces():
    wall = walls(10)
    wall[7, 10] = False
    assert betti_matching_error(wall, walls(10)) == (0, 1)


def test_a_wall_that_is_drawn_too_thick_costs_nothing():
    assert betti_matching_error(walls(9, 10, 11, 12), walls(10)) == (0, 0)


def test_a_shifted_wall_costs_nothing_while_its_pieces_overlap_most_with_their_own():
    assert betti_matching_error(walls(13), walls(7)) == (0, 0)
    # Pieces of 16 and 3 columns on truth's 3 and 16: the largest overlap of both is the middle.
    assert betti_matching_error(walls(16), walls(3)) == (0, 2)


def test_equal_betti_numbers_in_different_places_are_errors():
    islands = np.zeros((2, 12, 12), bool)
    islands[0, 2:4, 2:4] = True
    islands[1, 8:10, 8:10] = True
    assert betti_matching_error(*islands) == (2, 0)
    rings = np.zeros((2, 20, 20), bool)
    for ring, start in zip(rings, (2, 11), strict=True):
        ring[start : start + 5, start : start + 5] = True
        ring[start + 1 : start + 4, start + 1 : start + 4] = False
    assert betti_matching_error(*rings) == (2, 2)


def test_islands_that_touch_in_the_union_are_one_another_s():
    a, b = np.zeros((2, 9, 9), bool)
    a[2:4, 2:4] = True
    b[4:6, 4:6] = True  # by a corner
    assert betti_matching_error(a, b) == (0, 0)
    b[2, 6] = True  # an island of its own
    assert betti_matching_error(a, b) == (1, 0)


def test_all_cell_and_all_membrane():
    cell, membrane = np.zeros((5, 4), bool), np.ones((5, 4), bool)
    assert betti_matching_error(cell, membrane) == (0, 1)
    assert betti_matching_error(membrane, membrane) == (0, 0)


@no_deadline
@given(MASKS)
def test_matching_is_symmetric_and_no_smaller_than_the_difference_of_betti_numbers(masks):
    a, b = masks
    error = betti_matching_error(a, b)
    assert error == betti_matching_error(b, a)
    assert betti_matching_error(a, a) == (0, 0)
    pieces = [ndimage.label(~mask)[1] for mask in masks]
    assert error[1] >= abs(pieces[0] - pieces[1])
    assert (error[1] - pieces[0] - pieces[1]) % 2 == 0
