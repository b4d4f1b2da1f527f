"""The n-th largest of integers that are spread over ranks: exact, with little traffic however they are distributed.

Histograms over a shrinking interval leave few candidates, which are then gathered. No rank sends more than a few
thousand integers per round, even if one rank holds all of them or all are equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.allocation.segments import counted, true_indices_within
from distsae.collective import Collective

__all__ = ["Bin", "OrderStatistic", "bin_counts", "nth_largest", "nth_largest_in", "nth_largest_there"]

_BINS = 4096
_FEW = 4096
"""Number of integers that a rank may receive in a gather, which then replaces another histogram."""


@dataclass(frozen=True)
class OrderStatistic:
    """The n-th largest key, and what it takes to keep exactly the `n` largest.

    Args:
        value: the n-th largest key.
        kept: number of keys equal to `value` among the n largest; at least 1.
        equal: number of all keys equal to `value`.
    """

    value: int
    kept: int
    equal: int


@dataclass(frozen=True)
class Bin:
    """An interval that is known to hold the wanted key.

    Args:
        low: start of the interval.
        high: end of the interval, exclusive.
        n: rank of the sought key in the interval: it is the `n`-th largest inside.
        count: number of the keys of all ranks inside the interval.
    """

    low: int
    high: int
    n: int
    count: int

    @staticmethod
    def of(counts: Tensor, n: int, low: int, high: int) -> Bin | None:
        """Returns the bin that holds the n-th largest of all keys; None if that key lies outside the bins.

        Args:
            counts: sum over all ranks of `bin_counts(keys, low, high)`.
            n: rank of the sought key, at least 1 and at most the number of keys.
            low: start of the interval.
            high: end of the interval, exclusive.
        """
        at_least = counts.flip(0).cumsum(0).flip(0)  # keys in each bin and above it
        index = int((at_least >= n).sum()) - 1
        if not 1 <= index <= _BINS:
            return None
        count = int(counts[index])
        width = 1 << _shift(low, high)
        start = low + (index - 1) * width
        return Bin(start, start + width, n - int(at_least[index]) + count, count)


def bin_counts(keys: Tensor, low: int, high: int) -> Tensor:
    """Counts this rank's keys below `low`, in 4096 bins that cover at least `[low, high)`, and above the bins.

    Args:
        keys: this rank's keys, int64 `[any]`.
        low: start of the interval.
        high: end of the interval, exclusive.

    Returns:
        int64 `[4098]`: below, the bins, above.
    """
    # An arithmetic shift rounds down, so that keys just below `low` stay below.
    index = ((keys - low) >> _shift(low, high)).clamp_(-1, _BINS)
    return counted(index + 1, _BINS + 2)


def nth_largest(keys: Tensor, n: int, group: Collective, low: int, high: int) -> OrderStatistic:
    """Finds the n-th largest of the keys of all ranks, which all lie in `[low, high)`; collective.

    Args:
        keys: this rank's keys, int64 `[any]`.
        n: rank of the sought key, equal on all ranks, at least 1 and at most the number of keys on all ranks.
        group: the ranks that hold keys.
        low: start of the interval, equal on all ranks.
        high: end of the interval, exclusive, equal on all ranks.
    """
    if group.size == 1:
        return _nth_largest_here(keys, n)
    found = Bin.of(group.sum(bin_counts(keys, low, high)).cpu(), n, low, high)
    assert found is not None
    return nth_largest_in(found, keys, group)


def nth_largest_in(found: Bin, keys: Tensor, group: Collective) -> OrderStatistic:
    """Finds the sought key of a bin; collective.

    Args:
        found: the bin, equal on all ranks.
        keys: this rank's keys, int64 `[any]`; keys outside the bin are ignored.
        group: the ranks that hold keys.
    """
    keys = _inside(keys, found)
    while found.count * group.size > _FEW and found.high - found.low > 1:
        inner = Bin.of(group.sum(bin_counts(keys, found.low, found.high)).cpu(), found.n, found.low, found.high)
        assert inner is not None
        found = inner
        keys = _inside(keys, found)
    if found.high - found.low == 1:  # all of them are equal
        return OrderStatistic(found.low, found.n, found.count)
    padded = keys.new_full((found.count,), found.low - 1)
    padded[: keys.numel()] = keys
    return _nth_largest_here(group.stack(padded).view(-1), found.n)


def nth_largest_there(keys: Tensor, n: int, least: int) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the n-th largest of keys that are all on this rank, without waiting for the device.

    Args:
        keys: the keys, whole numbers `[any]`, at least one.
        n: rank of the sought key, at least 1; the smallest key is taken if there are fewer.
        least: smallest value to return.

    Returns:
        The n-th largest key, or `least` if that is larger; the number of keys that are at least this value; and of
        those that are equal to it; `[]` each.
    """
    value = keys.topk(min(n, keys.numel()), sorted=False).values.amin().clamp_(min=least)
    return value, (keys >= value).sum(), (keys == value).sum()


def _inside(keys: Tensor, found: Bin) -> Tensor:
    """Returns the keys inside a bin; on a GPU, so as not to wait, `found.count` keys, others below the bin."""
    inside = (keys >= found.low) & (keys < found.high)
    if not keys.is_cuda or not keys.numel():
        return keys.masked_select(inside)
    index = true_indices_within(inside, found.count)
    return keys[index.clamp(max=keys.numel() - 1)].masked_fill_(index == keys.numel(), found.low - 1)


def _nth_largest_here(keys: Tensor, n: int) -> OrderStatistic:
    """Finds the n-th largest of keys that are all on this rank."""
    smallest = keys.topk(n, sorted=False).values.min()
    value, above, equal = torch.stack([smallest, (keys > smallest).sum(), (keys == smallest).sum()]).tolist()
    return OrderStatistic(value, n - above, equal)


def _shift(low: int, high: int) -> int:
    """Returns the binary logarithm of the width of a bin."""
    return max((high - low - 1).bit_length() - _BINS.bit_length() + 1, 0)
