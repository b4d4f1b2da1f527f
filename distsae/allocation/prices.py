"""Prices: quotas of Feature Choice that hold on average over batches, rather than in each of them.

A feature with a quota of two matches a batch is due in one batch and not in the next: what it stands for comes in some
texts and not in others. Held to its quota in every batch, it matches tokens that it has nothing to say about, and
misses others. So each feature has a price instead, a threshold that follows its quota. A batch spends its budget on the
largest ratios of score to price (`distsae.allocation.priced_selector`); then the price of a feature with more matches
than its quota rises, and that of one with fewer falls.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.segments import counted
from distsae.collective import Collective, Solo

__all__ = ["Prices"]

_RATE = 0.1
"""Relative change of a price for a relative surplus of matches of 1."""

_MOST_SURPLUS = 3.0
"""Largest relative surplus that counts: a burst of matches must not price a feature out for hundreds of steps."""

_LEAST_SHARE = 1 / 64
"""Smallest price, as a share of the first cut: a feature that is never positive must not become free."""


class Prices:
    """The price of each feature, in units of its scores, and the quotas that the prices follow.

    The prices are training state. Each is computed from its own feature's matches alone, and from the cut, which all
    ranks know: they are the same on every mesh, bit for bit.

    Args:
        quota_per_token: matches per token of this rank's features, in `[0, 1]`, fp64 `[d_sae_local]`.

    Attributes:
        quota_per_token: a copy of the quotas given, fp64 `[d_sae_local]`; the live tensor.
        price: price of each local feature, fp64 `[d_sae_local]`; the live tensor. All are 1 before the first batch.
        least: smallest price, fp64 `[]`; the live tensor. 0 before the first batch.
    """

    def __init__(self, quota_per_token: Tensor) -> None:
        self.quota_per_token = quota_per_token.double().clone()
        self.price = torch.ones_like(self.quota_per_token)
        self.least = self.price.new_zeros(())

    def move(self, feature: Tensor, tokens: int, cut: float | None, data: Collective | None = None) -> None:
        """Moves the prices after a batch, so that densities come nearer to the quotas; collective.

        Prices are first scaled so that the cut of this batch, a ratio, would have been 1: they are thresholds then.

        Args:
            feature: local feature of each match on this rank, int64 `[matches]`.
            tokens: number of tokens of the global batch, without those that were left out.
            cut: smallest selected ratio of the batch; None if it has none.
            data: the ranks that hold other tokens of the same features; None for one process.
        """
        expected = self.quota_per_token * tokens
        matches = (data or Solo()).sum(counted(feature, len(self.price)))
        surplus = (matches - expected).div_(expected.add_(1.0)).clamp_(max=_MOST_SURPLUS)
        if cut is not None:
            self.price.mul_(cut)
            self.least.masked_fill_(self.least == 0, _LEAST_SHARE * cut)
        # Products and sums are rounded alike wherever a number lies in memory; `exp` is not.
        self.price.mul_(surplus.mul_(_RATE).add_(1.0)).clamp_(min=self.least)
