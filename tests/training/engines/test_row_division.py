"""Every row has one rank, and after an exchange every rank has all rows as their ranks left them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distsae.collective import Solo
from distsae.training.engines.row_division import RowDivision, rows_of_a_rank
from tests.training.engines.threaded_ranks import on_threads

SIZES = (st.integers(1, 40), st.integers(1, 12), st.integers(1, 5))


def _blocks(rows, size):
    return [(first, min(first + size, rows)) for first in range(0, rows, size)]


@given(*SIZES)
def test_each_row_has_one_rank_and_no_block_is_cut(rows, block_rows, ranks):
    found = on_threads(ranks, lambda group: RowDivision(group, rows, block_rows, 64))
    assert [row for division in found for row in division.own] == list(range(rows))
    most = rows_of_a_rank(rows, block_rows, ranks)
    assert max(len(division.own) for division in found) == most
    for division in found:
        assert division.own.start % block_rows == 0 or not division.own
        assert {division.own_blocks} == {len(_blocks(most, block_rows))}
        others = [row for first, last in division.others(3) for row in range(first, last)]
        assert others == [row for row in range(rows) if row not in division.own]
        assert all(last - first <= 3 for first, last in division.others(3))


@settings(deadline=None)
@given(*SIZES, st.integers(1, 200), st.sampled_from([(), (3,)]))
def test_after_an_exchange_every_rank_has_all_rows(rows, block_rows, ranks, sent_bytes, shape):
    def exchange(group):
        division = RowDivision(group, rows, block_rows, sent_bytes)
        values = torch.full((rows, *shape), -1.0)
        values[division.own.start : division.own.stop] = (
            torch.arange(rows).float().view(-1, *[1] * len(shape))[division.own.start : division.own.stop]
        )
        division.exchange(values)
        return values

    for values in on_threads(ranks, exchange):
        assert torch.equal(values, torch.arange(rows).float().view(-1, *[1] * len(shape)).expand(rows, *shape))


@settings(deadline=None)
@given(*SIZES)
def test_sums_of_blocks_come_in_the_order_of_the_blocks(rows, block_rows, ranks):
    def sums(group):
        division = RowDivision(group, rows, block_rows, 64)
        own = torch.full((division.own_blocks, 2), torch.nan)
        for number, (first, last) in enumerate(_blocks(len(division.own), block_rows)):
            own[number] = torch.tensor([division.own.start + first, division.own.start + last])
        return division.of_all_blocks(own)

    for found in on_threads(ranks, sums):
        assert found.tolist() == [list(block) for block in _blocks(rows, block_rows)]


@given(st.integers(1, 40), st.integers(1, 5))
def test_numbers_of_rows_come_in_the_order_of_the_rows(rows, ranks):
    def numbers(group):
        division = RowDivision(group, rows, 1, 64)
        return division.of_all_rows(torch.arange(rows)[division.own.start : division.own.stop])

    assert all(found.tolist() == list(range(rows)) for found in on_threads(ranks, numbers))


def test_alone_a_rank_has_all_rows_and_sends_nothing():
    division = RowDivision(Solo(), 10, 4, 64)
    values = torch.arange(10.0)
    division.exchange(values)
    assert not division.is_divided
    assert division.own == range(10)
    assert list(division.others(4)) == []
    assert torch.equal(values, torch.arange(10.0))


@pytest.mark.parametrize(("rows", "block", "ranks", "most"), [(9, 1, 4, 3), (10, 4, 2, 8), (3, 4, 2, 3), (8, 1, 3, 3)])
def test_the_first_ranks_have_most_rows(rows, block, ranks, most):
    assert rows_of_a_rank(rows, block, ranks) == most
