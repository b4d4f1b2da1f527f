"""Mutual Choice on any mesh: the batch keeps its `k * tokens` largest positive scores, wherever they are.

Each rank holds the candidates above a lower bound: a share of the last batch's cut, raised while candidates stream
in. One all-reduce then counts the candidates of all ranks in 4096 bins around the forecast cut and above them, which
proves in which bin the cut lies; the few scores of that bin are gathered and the cut is found among them. If the cut
proves to lie outside the bins, further histograms find it. If all ranks together hold fewer candidates than the budget,
the lower bound was too high and the batch is offered again without one. Equal scores at the cut go to the smallest
(token, feature).

On a GPU, once there is a forecast, the candidates of a chunk get a fixed number of places (`roomy_candidates.py`), so
that the CPU waits for the device once in a batch and not in every chunk; with several ranks twice.
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
    nth_largest_there,
)
from distsae.allocation.roomy_candidates import Places, RoomyCandidates
from distsae.allocation.scores import Scores, feature_and_token
from distsae.allocation.segments import true_indices_within
from distsae.allocation.selector import Placement, as_count, refuse_non_finite
from distsae.collective import Collective, Solo

__all__ = ["MutualSelector"]


class MutualSelector:
    """Selects the `k * tokens` largest positive scores of the global batch (arXiv 2411.02124, Mutual Choice).

    Args:
        k: mean matches per token; need not be whole.
        allowed: local features that may be selected, bool `[d_sae_local]`; None allows all. The auxiliary loss selects
            among underutilised features in this way.

    Attributes:
        k: mean matches per token of the next batch; may be set between batches.
        allowed: as given; may be set between batches.
        cut: smallest selected score of the last batch; None if the batch fell short of its budget.
        shortfall: number of matches by which the last batch missed its budget, over all ranks.
        second_passes: number of batches so far that were offered again because the lower bound proved too high.
    """

    def __init__(self, k: float, allowed: Tensor | None = None) -> None:
        self.k = k
        self.allowed = allowed
        self.cut: float | None = None
        self.shortfall = 0
        self.second_passes = 0
        self._forecast = CutForecast()
        self._places = Places()
        self._short = False  # all positive scores of the last batch were selected

    def set_budget(self, k: float) -> float:
        """Sets the mean matches per token of the next batches, and returns it."""
        self.k = k
        return k

    def forecast(self) -> dict[str, float | None]:
        """Returns what the last batches let this selector expect of the next; the same on all ranks of a mesh."""
        return self._forecast.state()

    def restore_forecast(self, forecast: Mapping[str, float | None]) -> None:
        """Takes over the forecast of a selector of this rule, from any mesh; it saves work and changes no selection."""
        self._forecast.restore(forecast)

    def start(self, placement: Placement, tokens: int) -> None:
        """Starts a batch of `tokens` local tokens."""
        self._placement = placement
        self._tokens = tokens
        self._budget = round(self.k * placement.sharing(tokens))
        self._lower = self._forecast.lower
        self._scores: list[Tensor] = []
        self._keys: list[Tensor] = []  # local feature * tokens + local token: ascending as chunks come
        self._held = 0
        self._most_held = 0  # of a chunk
        self._non_finite: int | Tensor = 0
        self._roomy: RoomyCandidates | None = None
        self._roomy_bounds: tuple[Tensor, Tensor] | None = None  # cutoffs and bounds; one, or one for each feature
        if self._budget and self._places.number and (self._lower > 0 or self._short):
            self._roomy = RoomyCandidates(tokens)

    def offer(self, first_feature: int, scores: Scores) -> None:
        """Keeps the scores of allowed features that reach the lower bound."""
        self._device = scores.device  # set on every rank, also on one without candidates
        if self._roomy is not None:
            self._non_finite += scores.non_finite()
            if self._roomy_bounds is None:
                bound = torch.full((1, 1), self._lower, device=scores.device)
                if self.allowed is not None:
                    bound = torch.where(self.allowed[:, None], bound, torch.inf)
                self._roomy_bounds = scores.cutoff(bound), bound
            of_chunk = slice(None) if self.allowed is None else slice(first_feature, first_feature + scores.shape[0])
            cutoff, bound = (bounds[of_chunk] for bounds in self._roomy_bounds)
            self._roomy.collect(first_feature, scores, cutoff, bound, self._places.number)
            return
        rows = None
        if self.allowed is not None:
            rows = self.allowed[first_feature : first_feature + scores.shape[0]].nonzero().squeeze(1)
            if not rows.numel():
                return
        self._non_finite += scores.non_finite()
        if not self._budget:
            return
        bound = torch.full((1, 1), self._lower, device=scores.device)
        flat, score = scores.above(bound, rows, self._budget)
        self._scores.append(score)
        self._keys.append(flat + first_feature * self._tokens)
        self._held += flat.numel()
        self._most_held = max(self._most_held, flat.numel())
        if self._held > 2 * self._budget:
            self._trim()

    def tally(self) -> Tensor:
        """Counts the candidates of all ranks; alone on a GPU, it finds the cut among them. Collective.

        Returns:
            Whether any rank has scores that are not finite, bin counts, and on a GPU whether any rank lacked places;
            last the most candidates of a chunk of this rank. Alone with a fixed number of places: number of scores that
            are not finite, bits of the cut, at least 1, numbers of candidates that are at least the cut and equal to
            it, and the most places that a chunk filled.
        """
        scores, keys = self._candidates()
        self._joined = scores, keys
        if self._roomy is not None and self._placement.world.size == 1:
            self._bits = scores.float().view(torch.int32)
            cut, at_least, equal = nth_largest_there(self._bits, self._budget, 1)
            numbers = (self._non_finite, cut, at_least, equal, self._roomy.filled().amax())
            return torch.cat([as_count(number, self._device) for number in numbers])
        self._bits = _bits(scores)
        if self._roomy is not None:
            self._bits = torch.where(scores > 0, self._bits, -1)  # empty places are below all bins
        return self._counts_of_all()

    def resolve(self, told: Tensor) -> Matches | None:
        """Finds the global cut and returns this rank's matches, or None if the lower bound was too high; collective."""
        if told[0]:
            counts = as_count(self._non_finite, self._device)
            refuse_non_finite(self._placement.world.stack(counts).squeeze(1))
        if self._roomy is not None and self._placement.world.size == 1:
            found = self._resolved_alone(*told[1:].tolist())
        else:
            found = self._resolved(told)
        if found is None:
            self._short = False
            self.second_passes += 1
            return None
        self._short = self.shortfall > 0
        self._forecast.learn(self.cut)
        scores, keys = found
        feature, token = feature_and_token(keys, self._tokens)
        return Matches(token, feature, scores)

    def _counts_of_all(self) -> Tensor:
        """Returns the numbers of `tally` for several ranks. One collective."""
        world = self._placement.world
        counts = bin_counts(self._bits, *self._forecast.interval())
        numbers = [(as_count(self._non_finite, self._device) > 0).long(), counts]
        most = torch.full((1,), self._most_held, device=self._device)
        if self._roomy is not None:
            counts[:1].zero_()  # empty places
            most = self._roomy.filled().amax()[None]
        if self._device.type == "cuda":  # whether all candidates had a place
            numbers.append(most >= self._places.number if self._roomy is not None else torch.zeros_like(most))
        message = torch.cat(numbers)
        if 2 * self._budget * world.size < 1 << 31:  # what all ranks may hold fits in int32: half the bytes
            message = message.int()
        return torch.cat([world.sum(message), most])

    def _resolved(self, told: Tensor) -> tuple[Tensor, Tensor] | None:
        """Returns scores and keys of this rank's matches, given bin counts; None if the batch must be offered again."""
        world = self._placement.world
        budget, bits = self._budget, self._bits
        on_gpu = self._device.type == "cuda"
        counts = told[1 : -2 if on_gpu else -1]
        if self._roomy is not None and int(told[-1]) >= self._places.number:
            self._places.grow(len(self._roomy.places), budget)
        elif on_gpu:
            self._places.learn(int(told[-1]))
        if on_gpu and told[-2]:
            return None
        held = int(counts.sum())
        if held < budget and self._forecast.lower > 0:
            self._forecast.learn(None)
            return None
        self.shortfall = max(budget - held, 0)
        self.cut = None
        scores, keys = self._joined
        if held > budget:
            cut_bin = Bin.of(counts, budget, *self._forecast.interval())
            if cut_bin is not None:
                cut = nth_largest_in(cut_bin, bits, world)
            else:
                cut = nth_largest(bits, budget, world, 0, ALL_BITS)
            scores, keys = self._picked(self._selected(bits, keys, cut, world))
            self.cut = score_of(cut.value)
        elif self._roomy is not None:
            scores, keys = self._picked(scores > 0)
        if held == budget > 0:
            smallest = torch.where(bits > 0, bits, ALL_BITS).amin() if bits.numel() else bits.new_tensor(ALL_BITS)
            self.cut = score_of(-int(world.max(-smallest[None])))
        return scores, keys

    def _resolved_alone(self, cut: int, at_least: int, equal: int, filled: int) -> tuple[Tensor, Tensor] | None:
        """Does what `_resolved` does, given the other numbers of `tally`."""
        assert self._roomy is not None
        if filled >= self._places.number:
            self._places.grow(len(self._roomy.places), self._budget)
            return None
        self._places.learn(filled)
        if at_least < self._budget and self._forecast.lower > 0:
            self._forecast.learn(None)
            return None
        self.shortfall = max(self._budget - at_least, 0)
        self.cut = score_of(cut) if not self.shortfall else None
        keep = self._bits >= cut
        if at_least > self._budget:
            tied = OrderStatistic(cut, self._budget - at_least + equal, equal)
            keep = self._selected(self._bits, self._joined[1], tied, self._placement.world)
        return self._picked(keep, min(at_least, self._budget))

    def _picked(self, keep: Tensor, number: int | None = None) -> tuple[Tensor, Tensor]:
        """Returns the scores and keys that are kept: so many, if that is known."""
        scores, keys = self._joined
        if self._roomy is None:
            return scores.masked_select(keep), keys.masked_select(keep)
        index = true_indices_within(keep, int(keep.sum()) if number is None else number)
        return scores[index], keys[index]

    def _candidates(self) -> tuple[Tensor, Tensor]:
        if self._roomy is not None:
            return self._roomy.joined()
        if not self._scores:
            return torch.zeros(0, device=self._device), torch.zeros(0, dtype=torch.long, device=self._device)
        return torch.cat(self._scores), torch.cat(self._keys)

    def _trim(self) -> None:
        """Drops the candidates that this rank alone proves to be outside the budget, and raises the lower bound.

        Exact with ties: what is kept is the local `budget` largest in the order (score, token, feature).
        """
        scores, keys = self._candidates()
        bits = _bits(scores)
        cut = nth_largest(bits, self._budget, Solo(), 0, ALL_BITS)
        keep = self._selected(bits, keys, cut, Solo())
        scores = scores.masked_select(keep)
        keys = keys.masked_select(keep)
        self._lower = max(self._lower, float(scores.float().min()))
        self._scores = [scores]
        self._keys = [keys]
        self._held = scores.numel()

    def _selected(self, bits: Tensor, keys: Tensor, cut: OrderStatistic, group: Collective) -> Tensor:
        """Marks the candidates above the cut and, of those at it, as many as fit, the earliest by (token, feature).

        Args:
            bits: bits of this rank's candidates, whole numbers `[held]`.
            keys: their keys, int64 `[held]`.
            cut: the cut among the candidates of the group.
            group: the ranks whose candidates compete.

        Returns:
            bool `[held]`.
        """
        keep = bits >= cut.value
        if cut.equal > cut.kept:
            at_cut = (bits == cut.value).nonzero().squeeze(1)
            feature, token = feature_and_token(keys[at_cut], self._tokens)
            token = token + self._placement.first_token
            order = token * self._placement.d_sae + feature + self._placement.first_feature
            pairs = self._tokens * self._placement.data.size * self._placement.d_sae
            from_last = pairs - 1 - order  # the earliest pairs are the largest numbers
            last_kept = nth_largest_in(Bin(0, pairs, cut.kept, cut.equal), from_last, group)
            keep[at_cut[from_last < last_kept.value]] = False
        return keep


def _bits(scores: Tensor) -> Tensor:
    """Returns the bit patterns of positive scores as fp32 numbers, int64; they are ordered as the scores are."""
    return scores.float().view(torch.int32).long()
