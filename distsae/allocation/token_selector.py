"""Token Choice on any mesh: each token keeps its `k` largest positive scores (TopK, the baseline).

The lower bound of a token is the `k`-th largest of its scores so far on this rank. Feature ranks then agree on a bound
for each token's cut, which prunes their candidates, and gather the rest. Data ranks hold other tokens and exchange no
scores.

On a GPU, after a first batch, the candidates of a chunk get a fixed number of places (`roomy_tokens.py`), so that the
CPU waits for the device once in a batch and not in every chunk; feature ranks wait again for what they gather.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from distsae.allocation.exchange import CandidateExchange, pick_of_all
from distsae.allocation.matches import Matches
from distsae.allocation.roomy_candidates import Places
from distsae.allocation.roomy_tokens import RoomyTokens
from distsae.allocation.scores import Scores, feature_and_token
from distsae.allocation.segments import counted, largest_per_segment, ranked, smallest_per_segment
from distsae.allocation.selector import Placement, as_count, refuse_non_finite

__all__ = ["TokenSelector"]


class TokenSelector:
    """Selects the `k` largest positive scores of each token over all feature ranks.

    Args:
        k: matches per token.

    Attributes:
        k: matches per token of the next batch; may be set between batches.
        shortfall: number of matches by which the last batch missed `k` per token, over all ranks.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self.shortfall = 0
        self._exchange = CandidateExchange()
        self._places: list[Places] = []  # for the candidates of each chunk

    def set_budget(self, k: float) -> float:
        """Sets the matches per token of the next batches, rounded, and returns them."""
        self.k = round(k)
        return self.k

    def forecast(self) -> dict[str, float | None]:
        """Returns what is expected of the next batch; the same on all ranks that exchange candidates."""
        return self._exchange.forecast()

    def restore_forecast(self, forecast: Mapping[str, float | None]) -> None:
        """Takes over the forecast of a selector of this rule, from any mesh; it saves work and changes no selection."""
        self._exchange.restore_forecast(forecast)

    def start(self, placement: Placement, tokens: int) -> None:
        """Starts a batch of `tokens` local tokens."""
        self._placement = placement
        self._tokens = tokens
        self._non_finite: int | Tensor = 0
        self._lower: Tensor | None = None  # [tokens]
        self._candidates: list[Matches] = []
        self._held = 0
        self._found: list[int] = []  # candidates of each chunk
        has_places = self._places and all(places.number for places in self._places)
        self._roomy = RoomyTokens(self.k, tokens) if has_places else None

    def offer(self, first_feature: int, scores: Scores) -> None:
        """Keeps the candidates of each token."""
        self._device = scores.device
        self._non_finite += scores.non_finite()
        if self._roomy is not None:
            chunk = len(self._roomy.places)
            if chunk or scores.shape[0] >= self.k:
                self._roomy.offer(first_feature, scores, self._places[min(chunk, len(self._places) - 1)].number)
                return
            self._roomy = None
        if self._lower is None and scores.shape[0] >= self.k:
            self._lower = scores.leading(self.k)
        flat, score = scores.above(torch.zeros(1, device=scores.device) if self._lower is None else self._lower)
        feature, token = feature_and_token(flat, self._tokens)
        self._candidates.append(Matches(token, feature + first_feature, score))
        self._found.append(flat.numel())
        self._held += flat.numel()
        if self._held > 2 * self.k * self._tokens:
            self._trim()

    def tally(self) -> Tensor | None:
        """On a GPU, picks the largest candidates of this rank; collective.

        Returns:
            Sums over all ranks: scores that are not finite, ranks that lacked places, picks. Then the picks of this
            rank, and the places that each chunk filled, if their number was fixed.
        """
        if self._device.type != "cuda":
            return None
        non_finite = as_count(self._non_finite, self._device)
        if self._roomy is not None:
            picks, filled = self._roomy.tally()
            numbers = [non_finite, self._roomy.full(), picks]
        else:
            picks = as_count(len(self._trim()), self._device)
            filled = picks[:0]
            numbers = [non_finite, torch.zeros_like(picks), picks]
        return torch.cat([self._placement.world.sum(torch.cat(numbers)), picks, filled])

    def resolve(self, told: Tensor) -> Matches | None:
        """Settles the cut of each token over the feature ranks and returns this rank's matches; collective.

        None if a fixed number of places did not suffice.
        """
        placement = self._placement
        on_gpu = told.numel() > 0
        if on_gpu:
            if told[0]:
                refuse_non_finite(placement.world.stack(as_count(self._non_finite, self._device)).squeeze(1))
            self._learn_places(told[4:].tolist())
            if told[1]:
                return None
            matches = self._candidates[0] if self._roomy is None else self._roomy.matches(int(told[3]))
            if placement.feature.size == 1:
                self.shortfall = self.k * placement.sharing(self._tokens) - int(told[2])
                return matches.by_feature() if self._roomy is None else matches
        else:
            matches = self._trim()
        device = matches.score.device
        if placement.feature.size > 1:
            matches = self._above_global_bound(matches)
            counts = counted(matches.token, self._tokens)
            body = torch.cat([counts.int(), matches.score.float().view(torch.int32)])
            bodies = self._exchange.gather(placement.feature, body)
            all_tokens = torch.arange(self._tokens, device=device)
            tokens = [all_tokens.repeat_interleave(part[: self._tokens].long()) for part in bodies]
            scores = [part[self._tokens :].view(torch.float32) for part in bodies]
            _, own = pick_of_all(tokens, scores, self._quotas(device), placement.feature.rank)
            matches = matches.picked(own)
        counts = placement.world.stack(torch.tensor([0 if on_gpu else self._non_finite, len(matches)]))
        refuse_non_finite(counts[:, 0])
        self.shortfall = self.k * placement.sharing(self._tokens) - int(counts[:, 1].sum())
        return matches.by_feature()

    def _learn_places(self, filled: list[int]) -> None:
        """Takes over how many places the chunks filled, or would have filled.

        Args:
            filled: places that each chunk filled; empty if their number was not fixed.
        """
        given = self._found if self._roomy is None else self._roomy.places
        if len(self._places) != len(given):  # batches are cut into another number of chunks
            self._places = [Places() for _ in given]
        for places, number, taken in zip(self._places, given, filled or given, strict=True):
            if self._roomy is None or taken < number:
                places.learn(taken)
            else:
                places.grow(1, self.k * self._tokens)

    def _above_global_bound(self, candidates: Matches) -> Matches:
        """Returns the candidates that reach the global bound of their token, sorted by token, largest first."""
        order, rank = ranked(candidates.token, candidates.score, self._tokens)
        candidates = candidates.picked(order)
        score = candidates.score.float()
        bound = self._global_bound(candidates.token, rank, score)
        return candidates.picked(score >= bound[candidates.token])

    def _global_bound(self, token: Tensor, rank: Tensor, score: Tensor) -> Tensor:
        """Returns a lower bound of each token's `k`-th largest score over all feature ranks, `[tokens]`; collective.

        If each of `n` ranks has `k / n` scores from some value on, or one rank has `k`, the cut is at least that value.
        One all-reduce of two numbers per token thus spares most of the scores that a gather of each rank's `k` largest
        would send.

        Args:
            token: token of each candidate of this rank.
            rank: rank of each candidate among this rank's candidates of its token, `0 <= rank < k`.
            score: score of each candidate, fp32.
        """
        group = self._placement.feature
        largest = score.new_zeros(self._tokens, self.k)
        largest[token, rank] = score
        fair_share = largest[:, -(-self.k // group.size) - 1]
        bounds = group.max(torch.stack([-fair_share, largest[:, -1]]))
        return torch.maximum(-bounds[0], bounds[1])

    def _trim(self) -> Matches:
        """Drops the candidates that this rank alone proves to be outside their token's `k` largest; exact with ties.

        Returns:
            The candidates that are left.
        """
        candidates = Matches.joined(self._candidates)
        device = candidates.score.device
        candidates = candidates.picked(largest_per_segment(candidates.token, candidates.score, self._quotas(device)))
        self._candidates = [candidates]
        self._held = len(candidates)
        score = candidates.score.float()
        lower = score.new_zeros(self._tokens) if self._lower is None else self._lower
        full = counted(candidates.token, self._tokens) == self.k
        smallest = smallest_per_segment(candidates.token, score, self._tokens)
        self._lower = torch.where(full, torch.maximum(lower, smallest), lower)
        return candidates

    def _quotas(self, device: torch.device) -> Tensor:
        return torch.full((self._tokens,), self.k, device=device)
