"""Mutual Choice on any mesh: the batch keeps its `k * tokens` largest positive scores, wherever they are.

Each rank holds the candidates above a lower bound: a share of the last batch's cut, raised while candidates stream
in. One all-reduce then counts all ranks' candidates in 4096 bins around the forecast cut and above them, which proves
in which bin the cut lies; the few scores of that bin are gathered and the cut is found among them. If it proves to lie
outside the bins, one more histogram finds it. If all ranks hold fewer than the budget, the lower bound was too high and
the batch is offered again without one. Equal scores at the cut go to the smallest (token, feature).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from distsae.allocation.cut_forecast import ALL_BITS, CutForecast, score_of
from distsae.allocation.matches import Matches
from distsae.allocation.order_statistic import (
    Bin,
    OrderStatistic,
    bin_counts,
    nth_largest,
    nth_largest_in,
)
from distsae.allocation.scores import Scores
from distsae.allocation.selector import Placement, refuse_non_finite
from distsae.collective import Collective, Solo

__all__ = ["MutualSelector"]


class MutualSelector:
    """Selects the `k * tokens` largest positive scores of the global batch (arXiv 2411.02124, Mutual Choice).

    Args:
        k: mean matches per token; need not be whole.
        allowed: local features that may be selected, bool `[d_sae_local]`; None allows all. The auxiliary loss
            selects among underutilised features this way.

    Attributes:
        cut: smallest selected score of the last batch; None if it fell short.
        shortfall: matches the last batch lacked.
        second_passes: batches so far that were offered again, because the lower bound proved too high.
    """

    def __init__(self, k: float, allowed: Tensor | None = None) -> None:
        self.k, self.allowed = k, allowed
        self.cut: float | None = None
        self.shortfall = self.second_passes = 0
        self._forecast = CutForecast()

    def forecast(self) -> dict[str, float | None]:
        """Returns what the last batches let it expect of the next; the same on all ranks that select together."""
        return {"cut": self._forecast.cut}

    def restore_forecast(self, forecast: Mapping[str, float | None]) -> None:
        """Expects what a selector of this rule did, on whatever mesh; it saves effort and changes no selection."""
        self._forecast.learn(forecast.get("cut"))

    def start(self, placement: Placement, tokens: int) -> None:
        """Starts a batch of `tokens` local tokens."""
        self._placement, self._tokens = placement, tokens
        self._budget = round(self.k * (tokens * placement.data.size))
        self._lower = self._forecast.lower
        self._scores: list[Tensor] = []
        self._keys: list[Tensor] = []  # local feature * tokens + local token: ascending as chunks come
        self._held = self._bad = 0

    def offer(self, first_feature: int, scores: Scores) -> None:
        """Keeps what exceeds the lower bound."""
        self._device = scores.device  # of every rank, also of one without candidates
        rows = None
        if self.allowed is not None:
            rows = self.allowed[first_feature : first_feature + scores.shape[0]].nonzero().squeeze(1)
            if not rows.numel():
                return
        self._bad += scores.non_finite()
        if not self._budget:  # nothing is held then
            return
        bound = torch.full((1, 1), self._lower, device=scores.device)
        flat, score = scores.above(bound, rows, self._budget)
        self._scores.append(score)
        self._keys.append(flat + first_feature * self._tokens)
        self._held += flat.numel()
        if self._held > 2 * self._budget:
            self._trim()

    def resolve(self) -> Matches | None:
        """Finds the exact global cut and returns this rank's matches, or None if the bound was too high."""
        world, budget = self._placement.world, self._budget
        scores, keys = self._candidates()
        bits = scores.float().view(torch.int32).long()
        interval = self._forecast.interval()
        bad = torch.tensor([self._bad > 0], device=self._device)
        numbers = torch.cat([bad, bin_counts(bits, *interval)])
        if 2 * budget * world.size < 1 << 31:  # what all ranks may hold: half the bytes will do
            numbers = numbers.int()
        bad, counts = world.sum(numbers).tensor_split([1])
        if bad:
            refuse_non_finite(world.stack(torch.tensor(self._bad, device=self._device)))
        held = int(counts.sum())
        if held < budget and self._forecast.lower > 0:
            self._forecast.learn(None)
            self.second_passes += 1
            return None
        self.shortfall = max(budget - held, 0)
        self.cut = None
        if held > budget:
            near = Bin.of(counts, budget, *interval)
            if near is not None:
                found = nth_largest_in(near, bits, world)
            else:
                found = nth_largest(bits, budget, world, 0, ALL_BITS)
            keep = self._within(bits, keys, found, world)
            scores = scores.masked_select(keep)
            keys = keys.masked_select(keep)
            self.cut = score_of(found.value)
        elif held == budget > 0:
            least = int(bits.min()) if bits.numel() else ALL_BITS
            self.cut = score_of(-int(world.max(torch.tensor([-least], device=self._device))))
        self._forecast.learn(self.cut)
        feature = keys // max(self._tokens, 1)
        return Matches(keys - feature * self._tokens, feature, scores)

    def _candidates(self) -> tuple[Tensor, Tensor]:
        if not self._scores:
            return torch.zeros(0, device=self._device), torch.zeros(0, dtype=torch.long, device=self._device)
        return torch.cat(self._scores), torch.cat(self._keys)

    def _trim(self) -> None:
        """Drops candidates that this rank alone shows to be outside the budget, and raises the lower bound.

        Exact with ties: what is kept is the local `budget` largest in the order (score, token, feature).
        """
        scores, keys = self._candidates()
        bits = scores.float().view(torch.int32).long()
        keep = self._within(bits, keys, nth_largest(bits, self._budget, Solo(), 0, ALL_BITS), Solo())
        scores, keys = scores.masked_select(keep), keys.masked_select(keep)
        self._lower = max(self._lower, float(scores.float().min()))
        self._scores = [scores]
        self._keys = [keys]
        self._held = scores.numel()

    def _within(self, bits: Tensor, keys: Tensor, found: OrderStatistic, group: Collective) -> Tensor:
        """Marks the candidates above the cut, and of those at it the group's earliest by (token, feature)."""
        keep = bits > found.value
        at_cut = (bits == found.value).nonzero().squeeze(1)
        if found.equal > found.room:
            feature = keys[at_cut] // self._tokens
            token = keys[at_cut] - feature * self._tokens + self._placement.first_token
            order = token * self._placement.d_sae + feature + self._placement.first_feature
            pairs = self._tokens * self._placement.data.size * self._placement.d_sae
            tied = Bin(0, pairs, found.room, found.equal)
            at_cut = at_cut[pairs - 1 - order >= nth_largest_in(tied, pairs - 1 - order, group).value]
        keep[at_cut] = True
        return keep
