"""Quotas: how many matches each feature is entitled to, and how fractions of a match are spent.

Feature Choice (arXiv 2411.02124) gives feature `j` the share `m_j` of the budget: the same for all (uniform), or
falling with the feature's rank by density as a Zipf-Mandelbrot law. Wide dictionaries have `m_j < 1` a batch, so
each feature keeps a credit that grows by its share and is spent in whole matches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.errors import WrongInput

__all__ = ["QuotaCredit", "uniform_quotas", "zipf_quotas"]


def uniform_quotas(d_sae: int, k: float) -> Tensor:
    """Returns the matches per token of each feature when all are treated alike: `k / d_sae`, fp64 `[d_sae]`."""
    _check(d_sae, k)
    return torch.full((d_sae,), k / d_sae, dtype=torch.float64)


def zipf_quotas(d_sae: int, k: float, s: float = 1.0, q: float = 0.0, rank: Tensor | None = None) -> Tensor:
    """Returns the matches per token of each feature under Zipf-Mandelbrot: `m_j ~ (rank_j + q)^-s`.

    No feature can match a token twice, so shares above 1 are cut to 1 and the rest is given to the others in
    proportion.

    Args:
        d_sae: number of features.
        k: mean matches per token, the sum of the result.
        s: exponent, >= 0.
        q: offset that flattens the head, > -1.
        rank: each feature's rank by density, 1 for the densest, int64 `[d_sae]`; by default feature `j` has rank
            `j + 1`.

    Returns:
        fp64 `[d_sae]`.
    """
    _check(d_sae, k)
    if s < 0 or q <= -1:
        raise WrongInput(f"`s` (={s}) must not be negative and `q` (={q}) must be greater than -1")
    ranks = torch.arange(1, d_sae + 1) if rank is None else rank
    weight = (ranks.double() + q) ** -s
    share = weight * (k / weight.sum())
    while bool((share > 1).any()):
        full = share >= 1
        share = torch.where(full, 1.0, weight * ((k - full.sum()) / weight[~full].sum()))
    return share


class QuotaCredit:
    """Turns shares into whole matches so that every batch spends its budget and, over time, every feature its share.

    Each feature's credit grows by its share of the batch; whole matches are paid out of it, and what the batch's
    budget still lacks goes to the largest remainders, ties to the smallest feature. The credit is training state.

    Args:
        quota_per_token: matches per token, fp64 `[d_sae]`.
    """

    def __init__(self, quota_per_token: Tensor) -> None:
        self.quota_per_token = quota_per_token.double().cpu()
        self.credit = torch.zeros_like(self.quota_per_token)

    def pay(self, tokens: int) -> Tensor:
        """Returns the whole matches of each feature in a batch of `tokens`, int64 `[d_sae]`.

        They sum to `round(k * tokens)`, and none exceeds `tokens`.
        """
        budget = round(float(self.quota_per_token.sum()) * tokens)
        self.credit += self.quota_per_token * tokens
        # A credit can be slightly negative: its feature was paid a remainder in advance.
        whole = self.credit.floor().clamp(0, tokens).long()
        missing = budget - int(whole.sum())
        remainder = (self.credit - whole).masked_fill(whole >= tokens, float("-inf"))
        if missing > 0:
            order = remainder.sort(descending=True, stable=True).indices
            whole[order[:missing]] += 1
        elif missing < 0:
            order = remainder.masked_fill(whole <= 0, float("inf")).sort(stable=True).indices
            whole[order[:-missing]] -= 1
        self.credit -= whole
        return whole


def _check(d_sae: int, k: float) -> None:
    if not 0 < k <= d_sae:
        raise WrongInput(f"`k` (={k}) must be positive and at most `d_sae` (={d_sae})")
