"""Mutual Choice on any mesh: the batch keeps its `k * tokens` largest positive scores, wherever they are.

Each rank holds the candidates above a lower bound: a share of the last batch's cut, raised while candidates stream
in. One all-gather then carries, from every rank, how many candidates lie above a narrow band around the forecast cut
and the scores inside the band. If the counts prove that the cut lies in the band, it is found there; if not,
histograms of the held candidates find it. If all ranks hold fewer than the budget, the lower bound was too high and
the batch is offered again without one. Equal scores at the cut go to the smallest (token, feature).
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.cut_forecast import CutForecast, bits_of, score_of
from distsae.allocation.exchange import CandidateExchange
from distsae.allocation.matches import Matches
from distsae.allocation.order_statistic import OrderStatistic, nth_largest
from distsae.allocation.segments import true_indices
from distsae.allocation.selector import Place, non_finite, refuse_non_finite
from distsae.collective import Collective, Solo

__all__ = ["MutualSelector"]

_ALL_BITS = 1 << 31
"""One more than the bits of any non-negative fp32 score."""


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
        misses: batches so far whose cut lay outside the forecast band.
    """

    def __init__(self, k: float, allowed: Tensor | None = None) -> None:
        self.k, self.allowed = k, allowed
        self.cut: float | None = None
        self.shortfall = self.second_passes = self.misses = 0
        self._forecast = CutForecast()
        self._exchange = CandidateExchange()

    def begin(self, place: Place, tokens: int) -> None:
        """Starts a batch of `tokens` local tokens."""
        self._place, self._tokens = place, tokens
        self._budget = round(self.k * tokens * place.data.size)
        self._lower = self._forecast.lower
        self._scores: list[Tensor] = []
        self._keys: list[Tensor] = []  # local feature * tokens + local token: ascending as chunks come
        self._held = self._bad = 0

    def offer(self, first_feature: int, pre_acts: Tensor) -> None:
        """Keeps what exceeds the lower bound of the pre-activations `[features, tokens]`."""
        self._device = pre_acts.device  # of every rank, also of one without candidates
        rows = None
        if self.allowed is not None:
            rows = self.allowed[first_feature : first_feature + pre_acts.shape[0]].nonzero().squeeze(1)
            pre_acts = pre_acts[rows]
        if not pre_acts.numel():
            return
        self._bad += non_finite(pre_acts)
        mask = pre_acts >= self._lower if self._lower > 0 else pre_acts > 0
        flat = true_indices(mask)
        self._scores.append(pre_acts.reshape(-1)[flat].float())
        feature = flat // self._tokens
        token = flat - feature * self._tokens
        feature = (feature if rows is None else rows[feature]) + first_feature
        self._keys.append(feature * self._tokens + token)
        self._held += flat.numel()
        if self._held > 2 * self._budget:
            self._trim()

    def settle(self) -> Matches | None:
        """Finds the exact global cut and returns this rank's matches, or None if the bound was too high."""
        place, budget = self._place, self._budget
        if self._held > budget:
            self._trim()
        scores, keys = self._candidates()
        bits = scores.view(torch.int32)
        low, high = self._forecast.band()
        band = bits[(bits >= low) & (bits < high)]
        least = int(bits.min()) if self._held else _ALL_BITS
        mine = torch.tensor([self._held, self._bad, int((bits >= high).sum()), least], device=self._device)
        numbers, bands = self._exchange.gather(place.world, mine, band)
        refuse_non_finite(numbers[:, 1])
        held, _, above, _ = numbers.sum(0).tolist()
        if held < budget and self._forecast.lower > 0:
            self._forecast.learn(None)
            self.second_passes += 1
            return None
        self.shortfall = max(budget - held, 0)
        cut = int(numbers[:, 3].min())
        if held > budget:
            found = self._global_cut(bits, torch.cat(bands), above, low, high)
            keep = self._within(bits, keys, found, place.world)
            scores, keys, cut = scores[keep], keys[keep], found.value
        reached = budget > 0 and not self.shortfall
        self.cut = score_of(cut) if reached else None
        self._forecast.learn(self.cut)
        feature = keys // max(self._tokens, 1)
        return Matches(keys - feature * self._tokens, feature, scores)

    def _global_cut(self, bits: Tensor, band: Tensor, above: int, low: int, high: int) -> OrderStatistic:
        """Returns the cut of all ranks' candidates, more than the budget, from the band if it is proved to lie there.

        Args:
            bits: this rank's candidates.
            band: all ranks' candidates in `[low, high)`.
            above: number of all ranks' candidates from `high` on.
            low: start of the band.
            high: its end.
        """
        budget, world = self._budget, self._place.world
        if not budget:
            return OrderStatistic(_ALL_BITS - 1, 0, 0)
        if above < budget <= above + band.numel():
            return nth_largest(band.long(), budget - above, Solo(), low, high)
        self.misses += 1
        if budget <= above:
            return nth_largest(bits.long(), budget, world, high, _ALL_BITS, above)
        return nth_largest(bits.long(), budget - above - band.numel(), world, bits_of(self._forecast.lower), low)

    def _candidates(self) -> tuple[Tensor, Tensor]:
        if not self._scores:
            return torch.zeros(0, device=self._device), torch.zeros(0, dtype=torch.long, device=self._device)
        return torch.cat(self._scores), torch.cat(self._keys)

    def _trim(self) -> None:
        """Drops candidates that this rank alone shows to be outside the budget, and raises the lower bound.

        Exact with ties: what is kept is the local `budget` largest in the order (score, token, feature).
        """
        scores, keys = self._candidates()
        bits = scores.view(torch.int32)
        if scores.numel() > self._budget > 0:
            found = nth_largest(bits.long(), self._budget, Solo(), 0, _ALL_BITS)
            keep = self._within(bits, keys, found, Solo())
            scores, keys = scores[keep], keys[keep]
            self._lower = max(self._lower, float(scores.min()))
        self._scores, self._keys, self._held = [scores], [keys], scores.numel()

    def _within(self, bits: Tensor, keys: Tensor, found: OrderStatistic, group: Collective) -> Tensor:
        """Marks the candidates above the cut, and of those at it the group's earliest by (token, feature)."""
        keep = bits > found.value
        at_cut = (bits == found.value).nonzero().squeeze(1) if found.room else bits.new_zeros(0, dtype=torch.long)
        if found.equal > found.room:
            feature = keys[at_cut] // self._tokens
            token = keys[at_cut] - feature * self._tokens + self._place.first_token
            order = token * self._place.d_sae + feature + self._place.first_feature
            pairs = self._tokens * self._place.data.size * self._place.d_sae
            earliness = pairs - order
            last = nth_largest(earliness, found.room, group, 0, pairs + 1, found.equal)
            at_cut = at_cut[earliness >= last.value]
        keep[at_cut] = True
        return keep
