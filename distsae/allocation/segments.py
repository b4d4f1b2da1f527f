"""The largest candidates of each segment, ties settled by order: the one sort that all allocations share."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "counted",
    "just_below",
    "largest_per_segment",
    "ranked",
    "smallest_per_segment",
    "true_indices",
    "true_indices_within",
]


def just_below(bound: Tensor) -> Tensor:
    """Returns thresholds with which the comparison `x > threshold` means `x >= bound and x > 0`.

    A comparison with the smallest subnormal number would not do: some libraries set the processor to flush subnormal
    numbers to 0, and it would then select zeros.
    """
    bound = bound.clamp(min=0)
    return torch.nextafter(bound, torch.zeros_like(bound))


def counted(index: Tensor, length: int) -> Tensor:
    """Returns how often each number below `length` occurs in `index`, int64 `[length]`; without waiting for a GPU."""
    if index.is_cuda:  # where `bincount` looks for the largest number first, and the CPU waits for it
        return torch.histc(index.long(), bins=length, min=0, max=length)  # exact: bin `i` is the number `i`
    return torch.bincount(index, minlength=length)


def ranked(segment: Tensor, score: Tensor, segments: int) -> tuple[Tensor, Tensor]:
    """Orders candidates by segment, and within a segment from the largest score to the smallest.

    Args:
        segment: segment of each candidate, int64 `[n]`, `0 <= segment < segments`.
        score: positive score of each candidate, `[n]`, compared in fp32; equal scores of a segment keep their order.
        segments: number of segments.

    Returns:
        The order, int64 `[n]`, and the rank of each candidate of that order in its segment, 0 for the largest.
    """
    # The bits of positive scores are ordered as the scores are: one sort of integers does for both keys.
    bits = score.float().view(torch.int32).long()
    order = ((segment + 1 << 31) - bits).sort(stable=True).indices
    counts = counted(segment, segments)
    first = counts.cumsum(0) - counts
    number = order.numel()
    return order, torch.arange(number, device=order.device) - first.repeat_interleave(counts, output_size=number)


def largest_per_segment(segment: Tensor, score: Tensor, quotas: Tensor) -> Tensor:
    """Picks the `quotas[segment]` largest scores of each segment, and of equal scores those that come first.

    Args:
        segment: segment of each candidate, int64 `[n]`, `0 <= segment < len(quotas)`.
        score: positive score of each candidate, `[n]`; candidates of a segment are in the order that settles ties.
        quotas: number of candidates that each segment keeps at most, int64 `[segments]`.

    Returns:
        Indices of the picked candidates, int64, ascending.
    """
    order, rank = ranked(segment, score, quotas.numel())
    return order[rank < quotas[segment[order]]].sort().values


def smallest_per_segment(segment: Tensor, score: Tensor, segments: int) -> Tensor:
    """Returns the smallest score of each segment, `[segments]` in the scores' dtype; infinite for an empty segment.

    Args:
        segment: segment of each candidate, int64 `[n]`, `0 <= segment < segments`.
        score: score of each candidate, `[n]`.
        segments: number of segments.
    """
    return score.new_full((segments,), torch.inf).scatter_reduce(0, segment, score, "amin")


def true_indices(mask: Tensor) -> Tensor:
    """Returns the flat indices of the true entries of a contiguous bool tensor, ascending.

    Eight entries are tested together through an int64 view: on the sparse masks of a selection this takes about half
    the time of `nonzero` on one core.
    """
    flat = mask.view(-1)
    if flat.numel() % 8 or flat.is_cuda:
        return flat.nonzero().squeeze(1)
    eights = flat.view(torch.int64)
    some_true = eights.nonzero().squeeze(1)
    inside = eights[some_true].view(torch.bool).view(-1, 8).nonzero()
    return some_true[inside[:, 0]] * 8 + inside[:, 1]


def true_indices_within(mask: Tensor, places: int, empty: int | None = None) -> Tensor:
    """Returns the flat indices of the first true entries of a contiguous bool tensor, without waiting for the device.

    Args:
        mask: the tensor.
        places: number of indices to return.
        empty: what stands in places that are left; by default the number of all entries.

    Returns:
        Indices, int64 `[places]`: first those of true entries, ascending, then `empty`.
    """
    fill = mask.numel() if empty is None else empty
    return mask.view(-1).nonzero_static(size=places, fill_value=fill).squeeze(1)
