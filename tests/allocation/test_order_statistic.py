"""The n-th largest and its ties, against a sort; also from the counts of parts, as ranks hold them."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distsae.allocation.order_statistic import (
    Bin,
    OrderStatistic,
    bin_counts,
    nth_largest,
    nth_largest_in,
    nth_largest_there,
)
from distsae.collective import Solo

quick = settings(max_examples=200, deadline=None)
keys_of_any_spread = st.one_of(
    st.lists(st.integers(0, 5), min_size=1, max_size=60),
    st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=60),
    st.lists(st.integers(2**40, 2**40 + 5000), min_size=1, max_size=60),
)


def by_sorting(keys: list[int], n: int) -> OrderStatistic:
    value = sorted(keys, reverse=True)[n - 1]
    return OrderStatistic(value, n - sum(key > value for key in keys), keys.count(value))


@quick
@given(keys_of_any_spread, st.data())
def test_on_one_rank(keys, data):
    n = data.draw(st.integers(1, len(keys)))
    assert nth_largest(torch.tensor(keys), n, Solo(), 0, max(keys) + 1) == by_sorting(keys, n)
    value, at_least, equal = (int(number) for number in nth_largest_there(torch.tensor(keys), n, 0))
    assert OrderStatistic(value, n - at_least + equal, equal) == by_sorting(keys, n)


def test_fewer_keys_than_sought_are_all_taken_down_to_the_least():
    found = nth_largest_there(torch.tensor([5, 0, 7, 0, 5]), 4, 1)
    assert [int(number) for number in found] == [1, 3, 0]
    assert [int(number) for number in nth_largest_there(torch.tensor([5, 7]), 4, 1)] == [5, 2, 1]


@quick
@given(keys_of_any_spread, st.integers(0, 2**41), st.integers(1, 2**41), st.data())
def test_the_bin_of_summed_counts_holds_what_is_looked_for(keys, low, span, data):
    """Whatever the interval: the bin is the right one, or the n-th largest lies outside all bins."""
    n, cut = data.draw(st.integers(1, len(keys))), data.draw(st.integers(0, len(keys)))
    whole, high = torch.tensor(keys), low + span
    counts = bin_counts(whole[:cut], low, high) + bin_counts(whole[cut:], low, high)
    assert int(counts.sum()) == len(keys)
    assert int(counts[0]) == sum(key < low for key in keys)
    assert int(counts[-1]) <= sum(key >= high for key in keys)
    found, expected = Bin.of(counts, n, low, high), by_sorting(keys, n)
    if found is None:
        assert not low <= expected.value < high
    else:
        inside = [key for key in keys if found.low <= key < found.high]
        assert found.count == len(inside)
        assert by_sorting(inside, found.n) == expected
        assert nth_largest_in(found, whole, Solo()) == expected


def test_equal_keys_need_no_gather():
    keys = torch.full((100_000,), 7)
    assert nth_largest_in(Bin(7, 8, 3, 100_000), keys, Solo()) == OrderStatistic(7, 3, 100_000)


def test_bins_are_a_power_of_two_wide_and_cover_the_interval():
    for span in (1, 4095, 4096, 4097, 2**31):
        counts = bin_counts(torch.arange(span - min(span, 10_000), span) + 5, 5, 5 + span)
        assert int(counts[1:-1].sum()) == min(span, 10_000)
