"""The largest candidates of each segment, ties settled by order: the one sort that all allocations share."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["just_below", "largest_per_segment", "ranked", "true_indices"]


def just_below(bound: Tensor) -> Tensor:
    """Returns the thresholds that make one comparison, `x >` them, say `x >= bound and x > 0`.

    A comparison with the smallest subnormal number would not do: a processor that flushes those to 0, as some
    libraries set it to, selects zeros.
    """
    bound = bound.clamp(min=0)
    return torch.nextafter(bound, torch.zeros_like(bound))


def ranked(segment: Tensor, score: Tensor, segments: int) -> tuple[Tensor, Tensor]:
    """Orders candidates by segment, and in each from the largest score to the smallest.

    Args:
        segment: int64 `[n]`, the segment of each candidate, `0 <= segment < segments`.
        score: positive, `[n]`, compared in fp32; equal scores of a segment keep their order.
        segments: number of segments.

    Returns:
        The order, int64 `[n]`, and the place in its segment of each candidate in that order, 0 for the largest.
    """
    # The bits of positive scores order as they do: one sort of integers does for both keys.
    bits = score.float().view(torch.int32).long()
    order = ((segment + 1 << 31) - bits).sort(stable=True).indices
    counts = torch.bincount(segment, minlength=segments)
    first = counts.cumsum(0) - counts
    return order, torch.arange(order.numel(), device=order.device) - first.repeat_interleave(counts)


def largest_per_segment(segment: Tensor, score: Tensor, quotas: Tensor) -> Tensor:
    """Picks, in each segment, the `quotas[segment]` largest scores; of equal scores those that come first.

    Args:
        segment: int64 `[n]`, the segment of each candidate, `0 <= segment < len(quotas)`.
        score: positive, `[n]`; within a segment the candidates are listed in the order in which ties are settled.
        quotas: int64 `[segments]`.

    Returns:
        Indices of the picked candidates, int64, ascending.
    """
    order, place = ranked(segment, score, quotas.numel())
    return order[place < quotas[segment[order]]].sort().values


def true_indices(mask: Tensor) -> Tensor:
    """Returns the flat indices of the true entries of a contiguous bool tensor, ascending.

    Eight entries are looked at together through an int64 view: on the sparse masks of a selection this takes about
    half the time of `nonzero` on one core.
    """
    flat = mask.view(-1)
    if flat.numel() % 8 or flat.is_cuda:
        return flat.nonzero().squeeze(1)
    words = flat.view(torch.int64)
    some = words.nonzero().squeeze(1)
    inside = words[some].view(torch.bool).view(-1, 8).nonzero()
    return some[inside[:, 0]] * 8 + inside[:, 1]
