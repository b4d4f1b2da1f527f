"""The n-th largest of integers that are spread over ranks: exact, with little traffic however they are distributed.

Histograms over a shrinking interval count down to a few candidates, which then are gathered. No rank sends more than
a few thousand integers a round, also when one rank holds everything or all are equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.collective import Collective

__all__ = ["OrderStatistic", "nth_largest"]

_BINS = 4096
_FEW = 4096
"""Candidates on all ranks together that are gathered rather than counted again."""


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


def nth_largest(
    keys: Tensor, n: int, group: Collective, low: int, high: int, count: int | None = None
) -> OrderStatistic:
    """Finds the n-th largest of all ranks' keys in `[low, high)`; collective.

    Args:
        keys: this rank's keys, int64 `[any]`; those outside the interval are not counted.
        n: equal on all ranks, at least 1 and at most the number of keys in the interval on all ranks.
        group: the ranks.
        low: start of the interval, equal on all ranks.
        high: its end, exclusive.
        count: number of keys in the interval on all ranks, if it is known; a few are gathered at once.
    """
    keys = keys[(keys >= low) & (keys < high)]
    if group.size == 1:
        return _nth_of(keys, n)
    while (count is None or count > _FEW) and high - low > 1:
        width = -(-(high - low) // _BINS)
        counts = group.sum(torch.bincount((keys - low) // width, minlength=_BINS))
        at_least = counts.flip(0).cumsum(0).flip(0)  # keys in each bin and above it
        place = int((at_least >= n).sum()) - 1
        count = int(counts[place])
        n -= int(at_least[place]) - count
        low, high = low + place * width, min(low + (place + 1) * width, high)
        keys = keys[(keys >= low) & (keys < high)]
    if high - low == 1 and count is not None:
        return OrderStatistic(low, n, count)
    return _nth_of(torch.cat(group.gather(keys)), n)


def _nth_of(keys: Tensor, n: int) -> OrderStatistic:
    value = int(keys.topk(n, sorted=False).values.min())
    return OrderStatistic(value, n - int((keys > value).sum()), int((keys == value).sum()))
