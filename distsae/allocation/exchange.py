"""The exchange of candidates: an all-gather of parts of unequal length, in one collective when little has changed."""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.segments import largest_per_segment
from distsae.collective import Collective

__all__ = ["CandidateExchange", "pick_of_all"]

_SLACK = 1.25
_SPARE = 64


class CandidateExchange:
    """Gathers every rank's candidates together with a few numbers about them.

    Each message has room for a little more than the longest part of the last exchange, so that one collective of
    equal messages carries everything; what does not fit travels in a second one.
    """

    def __init__(self) -> None:
        self._room = 0

    def gather(self, group: Collective, header: Tensor, body: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns all headers, int64 `[size, numbers]`, and all bodies in rank order; collective.

        Args:
            group: the ranks that exchange.
            header: a few numbers, int64 `[numbers]`, as many on every rank.
            body: int32 `[any]`, for example the bits of fp32 scores.
        """
        numbers = torch.cat([header, header.new_tensor([body.numel()])])
        first = body.new_zeros(self._room)
        first[: body.numel()] = body[: self._room]
        messages = group.stack(torch.cat([numbers.view(torch.int32), first]))
        headers = messages[:, : 2 * numbers.numel()].clone(memory_format=torch.contiguous_format).view(torch.int64)
        parts = messages[:, 2 * numbers.numel() :]
        sizes: list[int] = headers[:, -1].tolist()
        longest = max(sizes)
        if longest > self._room:
            rest = body.new_zeros(longest - self._room)
            rest[: max(body.numel() - self._room, 0)] = body[self._room :]
            parts = torch.cat([parts, group.stack(rest)], dim=1)
        self._room = int(_SLACK * longest) + _SPARE
        return headers[:, :-1], [part[:size] for part, size in zip(parts, sizes, strict=True)]


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
