"""The exchange of candidates: an all-gather of parts of unequal length, in one collective while lengths are steady."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from distsae.allocation.segments import largest_per_segment
from distsae.collective import Collective

__all__ = ["CandidateExchange", "pick_of_all"]

_SLACK = 1.25
_SPARE = 64
_SHRINK = 0.9

_MOST_EXPECTED = 1 << 24
"""Longest message that a checkpoint can make this expect; what does not fit costs one more collective, once."""


class CandidateExchange:
    """Gathers the candidates of all ranks.

    All messages have one length, a little more than the longest part of the last exchanges, so that usually one
    collective carries everything. What does not fit is sent in a second one.

    Attributes:
        capacity: length of the next message, equal on all ranks that exchange. Any length works; one that fits saves
            the second collective.
    """

    def __init__(self) -> None:
        self.capacity = 0

    def forecast(self) -> dict[str, float | None]:
        """Returns what the last exchanges let this one expect of the next, equal on all ranks that exchange."""
        return {"room": self.capacity}

    def restore_forecast(self, forecast: Mapping[str, float | None]) -> None:
        """Takes over what `forecast` returned, on any mesh; an empty mapping expects nothing."""
        self.capacity = min(int(forecast.get("room") or 0), _MOST_EXPECTED)

    def gather(self, group: Collective, body: Tensor) -> list[Tensor]:
        """Returns the bodies of all ranks in rank order; collective.

        Args:
            group: the ranks that exchange.
            body: this rank's part, int32 `[any]`, for example the bits of fp32 scores.
        """
        message = body.new_zeros(1 + self.capacity)
        message[0] = body.numel()
        message[1 : 1 + body.numel()] = body[: self.capacity]
        messages = group.stack(message)
        lengths: list[int] = messages[:, 0].tolist()
        longest = max(lengths)
        if longest > self.capacity:
            overflow = body.new_zeros(longest - self.capacity)
            overflow[: max(body.numel() - self.capacity, 0)] = body[self.capacity :]
            messages = torch.cat([messages, group.stack(overflow)], dim=1)
        self.capacity = max(int(_SLACK * longest) + _SPARE, int(_SHRINK * self.capacity))
        return [message[1 : 1 + length] for message, length in zip(messages, lengths, strict=True)]


def pick_of_all(segments: list[Tensor], scores: list[Tensor], quotas: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Picks the largest candidates of each segment among those of all ranks.

    Args:
        segments: segment of each candidate, one int64 tensor `[n]` per rank, in rank order.
        scores: score of each candidate, one tensor `[n]` per rank; ties go to the lower rank, and within a rank to the
            earlier candidate.
        quotas: number of candidates that each segment keeps, int64 `[segments]`.
        rank: index of this rank.

    Returns:
        Indices of the picks among the candidates of all ranks, and indices of this rank's picks among its own; both
        int64, ascending.
    """
    picked = largest_per_segment(torch.cat(segments), torch.cat(scores), quotas)
    start = sum(score.numel() for score in scores[:rank])
    own = picked[(picked >= start) & (picked < start + scores[rank].numel())] - start
    return picked, own
