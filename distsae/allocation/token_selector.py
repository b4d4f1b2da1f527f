"""Token Choice on any mesh: each token keeps its `k` largest positive scores (TopK, the baseline).

Every token's lower bound is the k-th largest score seen so far on this rank. Feature ranks then agree on a bound for
each token's cut, which prunes their candidates, and gather the rest; data ranks hold other tokens and need not meet.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from distsae.allocation.exchange import CandidateExchange, pick_of_all
from distsae.allocation.matches import Matches
from distsae.allocation.scores import Scores
from distsae.allocation.segments import largest_per_segment, ranked
from distsae.allocation.selector import Placement, refuse_non_finite

__all__ = ["TokenSelector"]


class TokenSelector:
    """Selects each token's `k` largest positive scores over all feature ranks.

    Args:
        k: matches per token.

    Attributes:
        shortfall: matches the last batch lacked.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self.shortfall = 0
        self._exchange = CandidateExchange()

    def forecast(self) -> dict[str, float | None]:
        """Returns what the last batches let it expect of the next; the same on all ranks that select together."""
        return {"room": self._exchange.room}

    def restore_forecast(self, forecast: Mapping[str, float | None]) -> None:
        """Expects what a selector of this rule did, on whatever mesh; it saves effort and changes no selection."""
        self._exchange.room = int(forecast.get("room") or 0)

    def start(self, placement: Placement, tokens: int) -> None:
        """Starts a batch of `tokens` local tokens."""
        self._placement = placement
        self._tokens = tokens
        self._bad = 0
        self._lower: Tensor | None = None  # [tokens]
        self._token: list[Tensor] = []
        self._feature: list[Tensor] = []
        self._score: list[Tensor] = []
        self._held = 0

    def offer(self, first_feature: int, scores: Scores) -> None:
        """Keeps each token's candidates."""
        self._bad += scores.non_finite()
        if self._lower is None and scores.shape[0] >= self.k:
            self._lower = scores.leading(self.k)
        flat, score = scores.above(torch.zeros(1, device=scores.device) if self._lower is None else self._lower)
        feature = flat // self._tokens
        self._token.append(flat - feature * self._tokens)
        self._feature.append(feature + first_feature)
        self._score.append(score)
        self._held += flat.numel()
        if self._held > 2 * self.k * self._tokens:
            self._trim()

    def resolve(self) -> Matches:
        """Settles each token's cut over the feature ranks and returns this rank's matches."""
        placement = self._placement
        self._trim()
        token = self._token[0]
        feature = self._feature[0]
        score = self._score[0]
        if placement.feature.size > 1:
            order, rank = ranked(token, score, self._tokens)
            single = score.float()
            order = order[single[order] >= self._global_bound(token[order], rank, single[order])[token[order]]]
            token = token[order]
            feature = feature[order]
            score = score[order]
            counts = torch.bincount(token, minlength=self._tokens)
            body = torch.cat([counts.int(), score.float().view(torch.int32)])
            bodies = self._exchange.gather(placement.feature, body)
            tokens = [self._all_tokens(score.device).repeat_interleave(part[: self._tokens].long()) for part in bodies]
            scores = [part[self._tokens :].view(torch.float32) for part in bodies]
            _, mine = pick_of_all(tokens, scores, self._quotas(score.device), placement.feature.rank)
            token = token[mine]
            feature = feature[mine]
            score = score[mine]
        counts = placement.world.stack(torch.tensor([self._bad, score.numel()], device=score.device))
        refuse_non_finite(counts[:, 0])
        self.shortfall = self.k * self._tokens * placement.data.size - int(counts[:, 1].sum())
        return Matches(token, feature, score).by_feature()

    def _global_bound(self, token: Tensor, rank: Tensor, score: Tensor) -> Tensor:
        """Returns for each token a score that its `k`-th largest over all feature ranks cannot be under, `[tokens]`.

        If every one of `n` ranks has `k / n` scores from some value on, or one rank has `k`, the cut is not under that
        value. One all-reduce of two numbers a token thus spares most of the scores that a gather of each rank's `k`
        largest would send.

        Args:
            token: token of each candidate of this rank.
            rank: its rank among this rank's candidates of the token, `0 <= rank < k`.
            score: its score, fp32.
        """
        group = self._placement.feature
        largest = score.new_zeros(self._tokens, self.k)
        largest[token, rank] = score
        fair_share = largest[:, -(-self.k // group.size) - 1]
        bounds = group.max(torch.stack([-fair_share, largest[:, -1]]))
        return torch.maximum(-bounds[0], bounds[1])

    def _trim(self) -> None:
        """Drops what this rank alone shows to be outside a token's `k` largest; exact with ties."""
        token = torch.cat(self._token)
        feature = torch.cat(self._feature)
        score = torch.cat(self._score)
        keep = largest_per_segment(token, score, self._quotas(score.device))
        self._token = [token[keep]]
        self._feature = [feature[keep]]
        self._score = [score[keep]]
        self._held = keep.numel()
        score = self._score[0].float()
        lower = score.new_zeros(self._tokens) if self._lower is None else self._lower
        full = torch.bincount(self._token[0], minlength=self._tokens) == self.k
        least = torch.full_like(lower, torch.inf).scatter_reduce(0, self._token[0], score, "amin")
        self._lower = torch.where(full, torch.maximum(lower, least), lower)

    def _quotas(self, device: torch.device) -> Tensor:
        return torch.full((self._tokens,), self.k, device=device)

    def _all_tokens(self, device: torch.device) -> Tensor:
        return torch.arange(self._tokens, device=device)
