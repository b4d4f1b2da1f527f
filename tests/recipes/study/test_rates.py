"""The best learning rate, and whether the list was wide enough."""

import math

import pytest

from distsae.recipes.study.rates import best_rate, edge_of


@pytest.mark.parametrize(
    ("errors", "best"),
    [
        ({0.1: 0.5, 0.2: 0.4, 0.3: 0.6}, 0.2),
        ({0.1: 0.4, 0.2: 0.4}, 0.1),  # of equal ones the first
        ({0.1: None, 0.2: math.nan, "auto": 0.9}, "auto"),
        ({0.1: None, 0.2: math.inf}, None),
        ({}, None),
    ],
)
def test_the_best_rate_has_the_smallest_error(errors, best):
    assert best_rate(errors) == best


def _size(rate):
    return 0.15 if rate == "auto" else rate


@pytest.mark.parametrize(
    ("rates", "best", "edge"),
    [
        ((0.1, 0.2, 0.3), 0.2, None),
        ((0.3, 0.1, 0.2), 0.1, "lowest"),  # whatever the order
        ((0.1, 0.2, 0.3), 0.3, "highest"),
        ((0.1, "auto", 0.2), "auto", None),
        (("auto", 0.2), "auto", "lowest"),
        ((0.2,), 0.2, None),
    ],
)
def test_an_edge_is_the_end_of_the_list(rates, best, edge):
    assert edge_of(rates, best, _size) == edge


def test_a_rate_of_unknown_size_is_at_no_edge():
    assert edge_of((0.1, 0.2, "auto"), "auto", lambda rate: None if rate == "auto" else rate) is None
    assert edge_of((0.1, 0.2, "auto"), 0.2, lambda rate: None if rate == "auto" else rate) == "highest"
