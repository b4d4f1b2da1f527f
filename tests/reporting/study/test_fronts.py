"""Pareto fronts against a plain statement of what they are."""

import itertools

import numpy as np
import pytest

from distsae.reporting.study.fronts import FRONTS, front_of, on_front
from distsae.reporting.study.measures import DEAD, FVU, LOSS_RECOVERED
from tests.reporting.study.samples import cell, figures


def _dominated(own, other):
    return other[0] <= own[0] and other[1] <= own[1] and (other[0] < own[0] or other[1] < own[1])


@pytest.mark.parametrize("seed", range(20))
def test_a_point_is_on_the_front_if_no_other_is_as_good_in_both_and_better_in_one(seed):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 5, (8, 2)).astype(float)  # small numbers, so that many are equal
    expected = [not any(_dominated(own, other) for other in points) for own in points]
    assert on_front(*points.T) == expected


def test_equal_points_are_all_on_the_front_and_no_points_are_none():
    assert on_front([1, 1, 2], [1, 1, 1]) == [True, True, False]
    assert on_front([], []) == []


def test_costs_that_are_close_count_as_equal():
    assert on_front([15.7, 15.9, 32.0], [0.36, 0.28, 0.25], tolerance=0.03) == [False, True, True]
    assert on_front([15.7, 15.9, 32.0], [0.36, 0.28, 0.25]) == [True, True, True]
    assert on_front([8.0, 15.9], [0.28, 0.28], tolerance=0.03) == [True, False]


def test_the_front_of_cells_depends_on_the_direction_of_the_figure():
    cells = [
        cell("worse", 8, [figures(0.4, 8.0, recovered=0.7, dead=0.0)]),
        cell("good", 8, [figures(0.3, 8.0, recovered=0.8, dead=0.5)]),
        cell("large", 16, [figures(0.2, 16.0, recovered=0.75, dead=0.2)]),
        cell("unfinished", 16, []),
    ]
    names = {measure.name: [c.method for c in front_of(cells, measure)] for measure in FRONTS}
    assert names[FVU.name] == ["good", "large"]
    assert names[LOSS_RECOVERED.name] == ["good"]
    assert names[DEAD.name] == ["worse"]


def test_the_front_is_ordered_by_l0():
    cells = [cell("m", k, [figures(1 / k, float(k))]) for k in (16, 4, 8)]
    for order in itertools.permutations(cells):
        assert [c.k for c in front_of(order, FVU)] == [4, 8, 16]
