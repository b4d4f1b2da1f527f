"""The exchange of candidates: an all-gather of parts of unequal length, in one collective when little has changed."""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.segments import largest_per_segment
from distsae.collective import Collective

__all__ = ["CandidateExchange", "pick_of_all"]

_SLACK = 1.25
_SPARE = 64
_SHRINK = 0.9


class CandidateExchange:
    """Gathers every rank's candidates.

    Each message has room for a little more than the longest part of the last exchanges, so that one collective of
    equal messages carries everything; what does not fit travels in a second one.

    Attributes:
        room: numbers that the next message has room for, the same on all ranks that exchange; any number will do.
    """

    def __init__(self) -> None:
        self.room = 0

    def gather(self, group: Collective, body: Tensor) -> list[Tensor]:
        """Returns all ranks' bodies in rank order; collective.

        Args:
            group: the ranks that exchange.
            body: int32 `[any]`, for example the bits of fp32 scores.
        """
        message = body.new_zeros(1 + self.room)
        message[0] = body.numel()
        message[1 : 1 + body.numel()] = body[: self.room]
        parts = group.stack(message)
        sizes: list[int] = parts[:, 0].tolist()
        longest = max(sizes)
        if longest > self.room:
            rest = body.new_zeros(longest - self.room)
            rest[: max(body.numel() - self.room, 0)] = body[self.room :]
            parts = torch.cat([parts, group.stack(rest)], dim=1)
        self.room = max(int(_SLACK * longest) + _SPARE, int(_SHRINK * self.room))
        return [part[1 : 1 + size] for part, size in zip(parts, sizes, strict=True)]


def pick_of_all(segments: list[Tensor], scores: list[Tensor], quotas: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Picks the largest candidates of each segment from all ranks', and says which of them are this rank's.

    Args:
        segments: the candidates' segments, int64 `[n]` a rank, in rank order.
        scores: their scores, `[n]` a rank; ties are settled by rank, then by the order within a rank.
        quotas: how many candidates each segment keeps, int64 `[segments]`.
        rank: this rank.

    Returns:
        Indices of the picks among all ranks' candidates, and those of this rank's picks among its own, int64.
    """
    picked = largest_per_segment(torch.cat(segments), torch.cat(scores), quotas)
    start = sum(score.numel() for score in scores[:rank])
    mine = picked[(picked >= start) & (picked < start + scores[rank].numel())] - start
    return picked, mine
