"""The n-th largest of integers that are spread over ranks: exact, with little traffic however they are distributed.

Histograms over a shrinking interval count down to a few candidates, which then are gathered. No rank sends more than
a few thousand integers a round, also when one rank holds everything or all are equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.collective import Collective

__all__ = ["Bin", "OrderStatistic", "bin_counts", "nth_largest", "nth_largest_in"]

_BINS = 4096
_FEW = 4096
"""Integers that a gather may bring to a rank instead of another histogram."""


@dataclass(frozen=True)
class OrderStatistic:
    """The n-th largest, and how to take exactly `n`.

    Args:
        value: the n-th largest.
        room: how many of those equal to `value` are among the n largest; at least 1.
        equal: how many there are.
    """

    value: int
    room: int
    equal: int


@dataclass(frozen=True)
class Bin:
    """An interval that is known to hold what is looked for.

    Args:
        low: its start.
        high: its end, exclusive.
        n: what is looked for is the `n`-th largest inside it.
        count: how many of all ranks' keys lie inside it.
    """

    low: int
    high: int
    n: int
    count: int

    @staticmethod
    def of(counts: Tensor, n: int, low: int, high: int) -> Bin | None:
        """Returns the bin of the n-th largest of all keys; None if it lies outside the bins.

        Args:
            counts: sum over all ranks of `bin_counts(keys, low, high)`.
            n: at least 1 and at most the number of keys.
            low: start of the interval.
            high: its end, exclusive.
        """
        at_least = counts.flip(0).cumsum(0).flip(0)  # keys in each bin and above it
        place = int((at_least >= n).sum()) - 1
        if not 1 <= place <= _BINS:
            return None
        count, width = int(counts[place]), 1 << _shift(low, high)
        start = low + (place - 1) * width
        return Bin(start, start + width, n - int(at_least[place]) + count, count)


def bin_counts(keys: Tensor, low: int, high: int) -> Tensor:
    """Counts this rank's keys below `low`, in 4096 bins that cover at least `[low, high)`, and above the bins.

    Args:
        keys: int64 `[any]`.
        low: start of the interval.
        high: its end, exclusive.

    Returns:
        int64 `[4098]`.
    """
    # An arithmetic shift rounds down, so that keys just below `low` stay below.
    place = ((keys - low) >> _shift(low, high)).clamp_(-1, _BINS)
    return torch.bincount(place + 1, minlength=_BINS + 2)


def nth_largest(keys: Tensor, n: int, group: Collective, low: int, high: int) -> OrderStatistic:
    """Finds the n-th largest of all ranks' keys, which all lie in `[low, high)`; collective.

    Args:
        keys: this rank's keys, int64 `[any]`.
        n: equal on all ranks, at least 1 and at most the number of keys on all ranks.
        group: the ranks.
        low: start of the interval, equal on all ranks.
        high: its end, exclusive.
    """
    if group.size == 1:
        return _of_one_rank(keys, n)
    found = Bin.of(group.sum(bin_counts(keys, low, high)), n, low, high)
    assert found is not None
    return nth_largest_in(found, keys, group)


def nth_largest_in(found: Bin, keys: Tensor, group: Collective) -> OrderStatistic:
    """Finds what lies in a bin that all ranks agree on; collective.

    Args:
        found: the bin.
        keys: this rank's keys, int64 `[any]`; those outside the bin are not looked at.
        group: the ranks.
    """
    keys = keys.masked_select((keys >= found.low) & (keys < found.high))
    while found.count * group.size > _FEW and found.high - found.low > 1:
        inner = Bin.of(group.sum(bin_counts(keys, found.low, found.high)), found.n, found.low, found.high)
        assert inner is not None
        found, keys = inner, keys.masked_select((keys >= inner.low) & (keys < inner.high))
    if found.high - found.low == 1:  # all of them are equal
        return OrderStatistic(found.low, found.n, found.count)
    padded = keys.new_full((found.count,), found.low - 1)
    padded[: keys.numel()] = keys
    return _of_one_rank(group.stack(padded).view(-1), found.n)


def _of_one_rank(keys: Tensor, n: int) -> OrderStatistic:
    value = int(keys.topk(n, sorted=False).values.min())
    return OrderStatistic(value, n - int((keys > value).sum()), int((keys == value).sum()))


def _shift(low: int, high: int) -> int:
    """Returns the binary logarithm of the bins' width."""
    return max((high - low - 1).bit_length() - _BINS.bit_length() + 1, 0)
