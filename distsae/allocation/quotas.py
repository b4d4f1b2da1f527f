"""Quotas: how many matches each feature is entitled to.

Feature Choice (arXiv 2411.02124) gives feature `j` the share `m_j` of the budget: the same for all features (uniform),
or falling with the feature's rank by density as a Zipf-Mandelbrot law. Or each feature keeps its measured density, with
a lower limit so that no feature is left without a quota. Wide dictionaries have `m_j < 1` per batch, so each feature
keeps a credit that grows by its share and is spent in whole matches (`distsae.allocation.quota_credit`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.density_ranks import DensityRanks
from distsae.errors import WrongInput

__all__ = ["measured_quotas_of", "uniform_quotas", "zipf_quotas", "zipf_quotas_of"]


def uniform_quotas(d_sae: int, k: float) -> Tensor:
    """Returns the matches per token of each feature if all are treated alike: `k / d_sae`, fp64 `[d_sae]`."""
    _check(d_sae, k)
    return torch.full((d_sae,), k / d_sae, dtype=torch.float64)


def zipf_quotas(d_sae: int, k: float, s: float = 1.0, q: float = 0.0, rank: Tensor | None = None) -> Tensor:
    """Returns the matches per token of each feature under Zipf-Mandelbrot: `m_j ~ (rank_j + q)^-s`.

    No feature can match a token twice, so shares above 1 are cut to 1 and the rest is given to the other features in
    proportion.

    Args:
        d_sae: number of features.
        k: mean matches per token, the sum of the result.
        s: exponent, >= 0.
        q: offset that flattens the head, > -1.
        rank: rank of each feature by density, 1 for the densest, `[d_sae]`; tied features may share the mean of their
            ranks. By default feature `j` has rank `j + 1`.

    Returns:
        fp64 `[d_sae]`.
    """
    _check(d_sae, k)
    ranks = torch.arange(1, d_sae + 1) if rank is None else rank
    return _shares(ranks, torch.ones_like(ranks), k, s, q)


def zipf_quotas_of(ranks: DensityRanks, k: float, s: float, q: float) -> Tensor:
    """Returns the `zipf_quotas` of this rank's features, the same on every mesh, bit for bit.

    Args:
        ranks: features of all ranks, ordered by density.
        k: mean matches per token, the sum over all ranks.
        s: exponent, >= 0.
        q: offset that flattens the head, > -1.

    Returns:
        fp64 `[d_sae_local]`.
    """
    _check(ranks.features, k)
    return ranks.of_features(_shares(ranks.rank_of_bin, ranks.counts, k, s, q))


def measured_quotas_of(ranks: DensityRanks, k: float, least_share: float) -> Tensor:
    """Returns quotas in proportion to the measured densities, none too small; the same bits on every mesh.

    A curve of two parameters misses the densities of the densest features, and of the rarest, by far. Densities alone
    would give a feature that never fired no quota, and so no chance to fire again.

    Args:
        ranks: features of all ranks, ordered by density; at least one has a density above zero.
        k: mean matches per token, the sum over all ranks.
        least_share: smallest quota as a share of the mean quota, before all quotas are scaled to the sum `k`.

    Returns:
        fp64 `[d_sae_local]`.
    """
    _check(ranks.features, k)
    count, density = ranks.counts, ranks.density_of_bin
    weight = (density * (k / (count * density).sum())).clamp(min=least_share * k / ranks.features)
    return ranks.of_features(_capped(torch.where(count > 0, weight, 0.0), count, k))


def _shares(rank: Tensor, count: Tensor, k: float, s: float, q: float) -> Tensor:
    """Returns the share of one feature of each group of features with equal rank.

    Args:
        rank: rank of each group, `[groups]`.
        count: number of features in each group, `[groups]`; may be 0.
        k: mean matches per token, the sum over all features.
        s: exponent.
        q: offset.
    """
    if s < 0 or q <= -1:
        raise WrongInput(f"`s` (={s}) must not be negative and `q` (={q}) must be greater than -1")
    occupied = count > 0
    log_rank = torch.where(occupied, rank.double() + q, torch.inf).log()
    weight = torch.exp(s * (log_rank.min() - log_rank)) if s else occupied.double()  # 1 at the top: no underflow there
    return _capped(weight, count, k)


def _capped(weight: Tensor, count: Tensor, k: float) -> Tensor:
    """Returns shares in proportion to weights, of which none exceeds 1, and which sum to `k` over all features."""
    share = weight * (k / (count * weight).sum())
    while bool((share > 1).any()):
        full = share >= 1
        left = k - int(count[full].sum())
        share = torch.where(full, 1.0, weight * (left / (count * weight)[~full].sum()))
    return share


def _check(d_sae: int, k: float) -> None:
    if not 0 < k <= d_sae:
        raise WrongInput(f"`k` (={k}) must be positive and at most `d_sae` (={d_sae})")
