"""The candidates of each token in a fixed number of places, for a device that the CPU need not wait for.

The lower bound of a token is the `k`-th largest score of the first chunk. It is raised after 2, 4, 8, ... chunks, so
that with many chunks a token has few candidates for each of its matches, and raising costs little.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.matches import Matches
from distsae.allocation.roomy_candidates import RoomyCandidates
from distsae.allocation.scores import Scores, feature_and_token
from distsae.allocation.segments import SegmentOrder, true_indices_within

__all__ = ["RoomyTokens"]


class RoomyTokens:
    """A pass over a batch that keeps the `k` largest positive scores of each token of this rank.

    Args:
        k: matches per token.
        tokens: number of tokens on this rank.
    """

    def __init__(self, k: int, tokens: int) -> None:
        self._k = k
        self._tokens = tokens
        self._held = RoomyCandidates(tokens)

    @property
    def places(self) -> list[int]:
        """Number of places of each chunk so far."""
        return self._held.places

    def offer(self, first_feature: int, scores: Scores, places: int) -> None:
        """Keeps the candidates of a chunk.

        Args:
            first_feature: local index of the first feature of the chunk. Chunks come in ascending order.
            scores: scores of the chunk; the first one has at least `k` features.
            places: number of places for its candidates.
        """
        chunks = len(self.places)
        if not chunks:
            self._lower = scores.leading(self._k)
            self._no_bound = torch.zeros(1, 1, device=scores.device)
            self._cutoff = scores.cutoff(self._lower)
        elif chunks > 1 and chunks & (chunks - 1) == 0:
            least = self._ordered(*self._held.joined()).smallest_of_first(self._k)
            self._lower = torch.maximum(self._lower, least)
            self._cutoff = scores.cutoff(self._lower)
        self._held.collect(first_feature, scores, self._cutoff, self._no_bound, places)

    def full(self) -> Tensor:
        """Returns the number of chunks that filled all their places, and may lack some, int64 `[1]`."""
        return self._held.full()

    def tally(self) -> tuple[Tensor, Tensor]:
        """Picks the largest candidates of each token.

        Returns:
            The number of picks, int64 `[1]`, and the number of places that each chunk filled, int64 `[chunks]`.
        """
        self._joined = self._held.joined()
        ordered = self._ordered(*self._joined)
        picked = (ordered.rank() < self._k) & ordered.positive()
        self._keep = torch.empty_like(picked).index_put_((ordered.order,), picked)
        return picked.sum()[None], self._held.filled()

    def matches(self, number: int) -> Matches:
        """Returns the picks, whose number `tally` returned, sorted by feature, then token."""
        scores, keys = self._joined
        index = true_indices_within(self._keep, number)
        feature, token = feature_and_token(keys[index], self._tokens)
        return Matches(token, feature, scores[index])

    def _ordered(self, scores: Tensor, keys: Tensor) -> SegmentOrder:
        return SegmentOrder(keys % self._tokens, scores, self._tokens)
