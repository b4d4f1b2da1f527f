"""Fractions of a match: what a batch owes each feature, paid in whole matches, on any number of ranks.

Think of feature `j` as queueing for its next matches with claims of `c_j`, `c_j - 1`, `c_j - 2`, ... where `c_j` is its
credit. A batch pays its budget to the largest claims of all. Claims are integers, so the cut among them is exact and
nothing is ever summed in floating point over ranks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.blocks import blocks
from distsae.allocation.order_statistic import OrderStatistic, nth_largest
from distsae.collective import Collective, Solo
from distsae.errors import WrongInput

__all__ = ["QuotaCredit"]

_BITS = 32
_MATCH = 1 << _BITS
_SAFETY = 0.9
"""Where the next cut is looked for first, as a share of the last one."""


class QuotaCredit:
    """Turns shares into whole matches so that every batch spends its budget and, over time, every feature its share.

    Each feature's credit grows by its share of the batch. The batch's matches go to the largest claims, of which a
    feature with credit `c` has `c`, `c - 1`, ..., one a token: the whole matches that it is owed first, then what the
    budget still holds to the largest remainders, ties to the smallest feature. The credit, which is negative where a
    remainder was paid in advance, is training state.

    Args:
        quota_per_token: matches per token of this rank's features, in `[0, 1]`, fp64 `[d_sae_local]`.
        k: mean matches per token, of all features together.
        feature: the ranks that share the features, in the order of their features.

    Attributes:
        quota_per_token: as given; live.
        credit: what each local feature is owed, in units of 2^-32 of a match, int64 `[d_sae_local]`; live.
    """

    def __init__(self, quota_per_token: Tensor, k: float, feature: Collective | None = None) -> None:
        self.quota_per_token = quota_per_token.double().clone()
        self.credit = torch.zeros_like(self.quota_per_token, dtype=torch.long)
        self._k, self._feature = k, feature or Solo()
        self._hint = 0  # saves time only: the cut is exact whatever it is

    def pay(self, tokens: int) -> Tensor:
        """Returns the whole matches of each local feature in a global batch of `tokens`, int64 `[d_sae_local]`.

        Over all ranks they sum to `round(k * tokens)`, and none exceeds `tokens`. Collective.

        Raises:
            WrongInput: there are fewer than `k` features.
        """
        budget = round(self._k * tokens)
        for credit, quota in blocks(self.credit, self.quota_per_token):
            credit += (quota * (tokens * float(_MATCH))).round_().long()
        level, left = self._level(budget, tokens)
        cut = self._cut(level, left, tokens) if left else OrderStatistic(_MATCH, 0, 0)
        paid = torch.empty_like(self.credit)
        tied = torch.zeros_like(paid, dtype=torch.bool)
        for credit, block, at_cut in blocks(self.credit, paid, tied):
            whole, remainder = _claims(credit, level, tokens)
            block.copy_(whole.add_(remainder > cut.value))
            at_cut.copy_(remainder == cut.value)
        places = tied.nonzero().squeeze(1)
        if cut.room < cut.equal:
            places = places[: max(cut.room - self._on_earlier_ranks(places.numel()), 0)]
        paid[places] += 1
        for credit, block in blocks(self.credit, paid):
            credit -= block << _BITS
        return paid

    def _level(self, budget: int, tokens: int) -> tuple[int, int]:
        """Finds the two neighbouring whole numbers between which the cut among the claims lies.

        Returns:
            The lower one, and what `budget` has left when all claims of at least the upper one are paid.
        """
        # as in nearly all batches
        low = 0
        high = 1
        step = 1
        at_low, at_high = self._count((low, high), tokens)
        while at_low < budget:
            if low < -_MATCH:
                raise WrongInput(f"`k` (={self._k}) must be at most the number of features")
            low, high, at_high, step = low - step, low, at_low, 2 * step
            (at_low,) = self._count((low,), tokens)
        while at_high > budget:
            low = high
            high = high + step
            step = 2 * step
            (at_high,) = self._count((high,), tokens)
        while high - low > 1:
            middle = (low + high) // 2
            (found,) = self._count((middle,), tokens)
            if found >= budget:
                low = middle
            else:
                high, at_high = middle, found
        return low, budget - at_high

    def _count(self, levels: tuple[int, ...], tokens: int) -> list[int]:
        """Counts the claims of all ranks of at least each level."""
        counts = torch.zeros(len(levels), dtype=torch.long, device=self.credit.device)
        for (credit,) in blocks(self.credit):
            whole = credit >> _BITS
            for place, level in enumerate(levels):
                counts[place] += (whole + (1 - level)).clamp_(0, tokens).sum()
        found: list[int] = self._feature.sum(counts).tolist()
        return found

    def _cut(self, level: int, left: int, tokens: int) -> OrderStatistic:
        """Finds the last remainder that is paid when the `left` largest are."""
        likely = self._remainders(level, tokens, self._hint)
        if int(self._feature.sum(torch.tensor([likely.numel()], device=likely.device))) < left:
            likely = self._remainders(level, tokens, 0)
        cut = nth_largest(likely, left, self._feature, 0, _MATCH)
        self._hint = int(_SAFETY * cut.value)
        return cut

    def _remainders(self, level: int, tokens: int, least: int) -> Tensor:
        """Returns the remainders of at least `least` of the features that have a claim in `[level, level + 1)`."""
        found = []
        for (credit,) in blocks(self.credit):
            remainder = _claims(credit, level, tokens)[1]
            found.append(remainder[remainder >= least])
        return torch.cat(found)

    def _on_earlier_ranks(self, number: int) -> int:
        """Returns the sum of `number` over the ranks before this one; collective."""
        counts = self._feature.stack(torch.tensor(number, device=self.credit.device))
        return int(counts[: self._feature.rank].sum())


def _claims(credit: Tensor, level: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Splits credits at `level`.

    Returns:
        How many of each feature's claims are at least `level + 1`, and by how much the one in `[level, level + 1)`
        exceeds `level`, in units of the credit; -1 where there is none.
    """
    whole = (credit >> _BITS).sub_(level)
    remainder = (credit & (_MATCH - 1)).masked_fill_((whole < 0) | (whole >= tokens), -1)
    return whole.clamp_(0, tokens), remainder
