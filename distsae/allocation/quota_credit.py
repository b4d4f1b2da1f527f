"""Fractions of a match: what a batch owes each feature, paid in whole matches, on any number of ranks.

Think of feature `j` as queueing for its next matches with claims of `c_j`, `c_j - 1`, `c_j - 2`, ... where `c_j` is its
credit. A batch pays its budget to the largest claims of all features. Claims are integers, so the cut among them is
exact, and no sum over ranks is one of floating-point numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.allocation.cache_blocks import cache_blocks
from distsae.allocation.order_statistic import OrderStatistic, nth_largest
from distsae.collective import Collective, Solo
from distsae.errors import WrongInput

__all__ = ["Payment", "QuotaCredit"]

_BITS = 32
_MATCH = 1 << _BITS
"""One match, in units of the credit."""

_SAFETY = 0.9
"""Lower end of the remainders that are searched first for the next cut, as a share of the last cut."""


@dataclass(frozen=True)
class Payment:
    """What a batch is paid.

    Args:
        quotas: whole matches of each local feature, int64 `[d_sae_local]`.
        doubt: whether they may be wrong, so that `QuotaCredit.corrected` must be asked, bool `[]`; None if they are
            certain to be right.
        tokens: number of tokens of the global batch.
    """

    quotas: Tensor
    doubt: Tensor | None
    tokens: int


class QuotaCredit:
    """Turns quotas into whole matches: every batch spends its budget, and over time every feature gets its quota.

    The credit of a feature grows by its share of each batch. The matches of the batch go to the largest claims, of
    which a feature with credit `c` has `c`, `c - 1`, ..., one per token: first to the whole matches that features are
    owed, then to the largest remainders, ties to the smallest feature. The credit is training state. It is negative
    where a remainder was paid in advance.

    Args:
        quota_per_token: matches per token of this rank's features, in `[0, 1]`, fp64 `[d_sae_local]`.
        k: mean matches per token, of all features together.
        feature: the ranks that share the features, in the order of their features; None for one process.

    Attributes:
        quota_per_token: a copy of the quotas given, fp64 `[d_sae_local]`; the live tensor.
        credit: what each local feature is owed, in units of 2^-32 of a match, int64 `[d_sae_local]`; the live tensor.
    """

    def __init__(self, quota_per_token: Tensor, k: float, feature: Collective | None = None) -> None:
        self.quota_per_token = quota_per_token.double().clone()
        self.credit = torch.zeros_like(self.quota_per_token, dtype=torch.long)
        self._k = k
        self._feature = feature or Solo()
        self._likely_cut = 0  # saves time only: the cut is exact for any value

    def pay(self, tokens: int) -> Tensor:
        """Returns the whole matches of each local feature in a global batch, int64 `[d_sae_local]`; collective.

        Over all ranks they sum to `round(k * tokens)`, and none exceeds `tokens`.

        Args:
            tokens: number of tokens of the global batch.

        Raises:
            WrongInput: there are fewer than `k` features.
        """
        self._earn(tokens)
        return self._paid(tokens)

    def pay_at_once(self, tokens: int) -> Payment:
        """Pays as `pay` does, without waiting for a GPU where that can be: then the quotas may be in doubt. Collective.

        Args:
            tokens: number of tokens of the global batch.
        """
        if not self.credit.is_cuda or self._feature.size > 1:
            return Payment(self.pay(tokens), None, tokens)
        self._earn(tokens)
        # As in `_paid`, for the usual level.
        paid, remainder = _claims(self.credit, 0, tokens)
        left = round(self._k * tokens) - paid.sum()[None]
        doubt = ((left < 0) | (left > (remainder >= 0).sum())).squeeze(0)
        largest = remainder.sort(descending=True).values
        cut = largest[(left - 1).clamp_(0, largest.numel() - 1)].masked_fill_(left <= 0, _MATCH)
        above, tied = remainder > cut, remainder == cut
        tied &= tied.cumsum(0) <= left - above.sum()
        paid.add_(above).add_(tied)
        self.credit -= paid << _BITS
        return Payment(paid, doubt, tokens)

    def corrected(self, payment: Payment) -> Tensor:
        """Returns the quotas of a payment that was in doubt, for the payment that was made last. Collective."""
        self.credit += payment.quotas << _BITS
        return self._paid(payment.tokens)

    def _earn(self, tokens: int) -> None:
        """Adds each feature's share of a batch to its credit."""
        for credit, quota in cache_blocks(self.credit, self.quota_per_token):
            credit += (quota * (tokens * float(_MATCH))).round_().long()

    def _paid(self, tokens: int) -> Tensor:
        """Pays a batch that has been earned, and returns the whole matches of each local feature. Collective."""
        budget = round(self._k * tokens)
        level, left = self._level(budget, tokens)
        cut = self._cut(level, left, tokens) if left else OrderStatistic(_MATCH, 0, 0)
        paid = torch.empty_like(self.credit)
        at_cut = torch.zeros_like(paid, dtype=torch.bool)
        for credit, paid_block, at_cut_block in cache_blocks(self.credit, paid, at_cut):
            whole, remainder = _claims(credit, level, tokens)
            paid_block.copy_(whole.add_(remainder > cut.value))
            at_cut_block.copy_(remainder == cut.value)
        tied = at_cut.nonzero().squeeze(1)
        if cut.kept < cut.equal:
            tied = tied[: max(cut.kept - self._on_earlier_ranks(tied.numel()), 0)]
        paid[tied] += 1
        for credit, paid_block in cache_blocks(self.credit, paid):
            credit -= paid_block << _BITS
        return paid

    def _level(self, budget: int, tokens: int) -> tuple[int, int]:
        """Finds the two consecutive whole numbers of matches between which the cut among the claims lies; collective.

        Returns:
            The lower number, and what is left of `budget` once all claims of at least the upper one are paid.
        """
        low = 0  # the answer for nearly all batches
        high = 1
        step = 1
        at_low, at_high = self._count((low, high), tokens)
        while at_low < budget:
            if low < -_MATCH:
                raise WrongInput(f"`k` (={self._k}) must be at most the number of features; use a smaller `k`")
            high = low
            at_high = at_low
            low = low - step
            step = 2 * step
            (at_low,) = self._count((low,), tokens)
        while at_high > budget:
            low = high
            high = high + step
            step = 2 * step
            (at_high,) = self._count((high,), tokens)
        while high - low > 1:
            middle = (low + high) // 2
            (at_middle,) = self._count((middle,), tokens)
            if at_middle >= budget:
                low = middle
            else:
                high = middle
                at_high = at_middle
        return low, budget - at_high

    def _count(self, levels: tuple[int, ...], tokens: int) -> list[int]:
        """Counts the claims of all ranks that are at least each level; collective."""
        counts = torch.zeros(len(levels), dtype=torch.long, device=self.credit.device)
        for (credit,) in cache_blocks(self.credit):
            whole = credit >> _BITS
            for index, level in enumerate(levels):
                counts[index] += (whole + (1 - level)).clamp_(0, tokens).sum()
        of_all: list[int] = self._feature.sum(counts).tolist()
        return of_all

    def _cut(self, level: int, left: int, tokens: int) -> OrderStatistic:
        """Finds the smallest remainder that is paid when the `left` largest are; collective."""
        remainders = self._remainders(level, tokens, self._likely_cut)
        number = torch.tensor([remainders.numel()], device=remainders.device)
        if int(self._feature.sum(number)) < left:
            remainders = self._remainders(level, tokens, 0)
        cut = nth_largest(remainders, left, self._feature, 0, _MATCH)
        self._likely_cut = int(_SAFETY * cut.value)
        return cut

    def _remainders(self, level: int, tokens: int, least: int) -> Tensor:
        """Returns the remainders, at least `least`, of the local features with a claim in `[level, level + 1)`."""
        found = []
        for (credit,) in cache_blocks(self.credit):
            _, remainder = _claims(credit, level, tokens)
            found.append(remainder[remainder >= least])
        return torch.cat(found)

    def _on_earlier_ranks(self, number: int) -> int:
        """Returns the sum of `number` over the ranks before this one; collective."""
        numbers = self._feature.stack(torch.tensor(number, device=self.credit.device))
        return int(numbers[: self._feature.rank].sum())


def _claims(credit: Tensor, level: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Splits the claims of each feature at `level`.

    Returns:
        The number of each feature's claims of at least `level + 1`, and the remainder by which its claim in
        `[level, level + 1)` exceeds `level`, in units of the credit; -1 without such a claim.
    """
    whole = (credit >> _BITS).sub_(level)
    remainder = (credit & (_MATCH - 1)).masked_fill_((whole < 0) | (whole >= tokens), -1)
    return whole.clamp_(0, tokens), remainder
