"""The largest candidates of each segment, ties settled by order: the one sort that all allocations share."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "SegmentOrder",
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


class SegmentOrder:
    """Candidates ordered by segment, and within a segment from the largest score to the smallest, as `ranked` does.

    Nothing waits for the device, and candidates need not be there: a score of 0 stands for none, in any segment.

    Args:
        segment: segment of each candidate, int64 `[n]`, `0 <= segment < segments`.
        score: score of each candidate, 0 for none, `[n]`, compared in fp32; equal scores of a segment keep their order.
        segments: number of segments.

    Attributes:
        order: the order, int64 `[n]`.
    """

    def __init__(self, segment: Tensor, score: Tensor, segments: int) -> None:
        # The numbers of segment `s` are above `s << 31` and at most `s + 1 << 31`, which stands for a score of 0.
        self._sorted, self.order = ((segment + 1 << 31) - score.float().view(torch.int32)).sort(stable=True)
        self._ends = torch.arange(segments + 1, device=score.device) << 31
        self._starts = torch.searchsorted(self._sorted, self._ends, right=True)
        self._segments = segments

    def sizes(self) -> Tensor:
        """Returns the number of candidates of each segment, those of score 0 included, int64 `[segments]`."""
        return self._starts.diff()

    def rank(self) -> Tensor:
        """Returns the rank of each candidate of the order in its segment, 0 for the largest, int64 `[n]`."""
        positions = torch.arange(self._sorted.numel(), device=self._sorted.device)
        return positions - self._starts[self.segment()]

    def segment(self) -> Tensor:
        """Returns the segment of each candidate of the order, int64 `[n]`."""
        return self._sorted - 1 >> 31

    def positive(self) -> Tensor:
        """Marks the candidates of the order that are there, bool `[n]`."""
        return self._sorted & (1 << 31) - 1 != 0

    def smallest_of_first(self, quotas: Tensor | int) -> Tensor:
        """Returns the `quotas[segment]`-th largest score of each segment, fp32 `[segments]`; 0 if there are fewer.

        Args:
            quotas: whole numbers, at least 1, int64 `[segments]` or one for all; anything is returned for others.
        """
        position = self._starts[:-1] + (quotas - 1)
        bits = self._ends[1:] - self._sorted[position.clamp(0, self._sorted.numel() - 1)]
        return bits.masked_fill_(position >= self._starts[1:], 0).int().view(torch.float32)


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
