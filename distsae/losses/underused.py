"""The set `U` of features that the auxiliary loss trains: one definition, in one place.

The paper (arXiv 2411.02124) introduces `aux_zipf_loss` as a generalisation of Gao et al.'s `aux_k`
(arXiv 2406.04093) that revives underutilised features along with dead ones. Our reading: a feature is underutilised
if its density is below a share `rho` of what the Zipf-Mandelbrot curve, fitted to all densities, expects at its rank.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from distsae.allocation import DensityRanks, ZipfFit, blocks, fit_zipf
from distsae.collective import Collective
from distsae.losses.firing import FiringStatistics

__all__ = ["AuxName", "Underused", "underutilised"]

AuxName = Literal["none", "aux_k", "aux_zipf"]

_TRUSTED_WINDOW = 0.25
"""Share of the density window that must have been seen before a fit is believed."""


def underutilised(density: Tensor, ranks: DensityRanks, fit: ZipfFit | None, rho: float) -> Tensor:
    """Marks the features whose density is below `rho` times the fitted curve's value at their rank.

    Args:
        density: matches per token of this rank's features, `[d_sae_local]`.
        ranks: these features among those of all ranks.
        fit: the curve, or None: then no feature is.
        rho: share of the expectation, in (0, 1].

    Returns:
        bool `[d_sae_local]`.
    """
    marks = torch.zeros_like(density, dtype=torch.bool)
    if fit is not None:
        least = (rho * fit.density(ranks.rank_of_bin)).to(density)
        for values, bins, block in blocks(density, ranks.bins, marks):
            torch.lt(values, least[bins], out=block)
    return marks


@dataclass(frozen=True)
class Underused:
    """The underused features at one moment of training.

    Args:
        members: this rank's features in `U`, bool `[d_sae_local]`.
        share: size of `U` over all ranks, as a share of `d_sae`.
        dead_share: dead features, as a share of `d_sae`.
        underutilised_share: underutilised features, dead ones included, as a share of `d_sae`.
        zipf_s: exponent of the curve fitted to the densities, None before the window holds enough tokens.
        zipf_q: its offset.
        zipf_r_squared: how well it fits.
        zipf_residual: root mean square distance from it, in nats.
    """

    members: Tensor
    share: float
    dead_share: float
    underutilised_share: float
    zipf_s: float | None = None
    zipf_q: float | None = None
    zipf_r_squared: float | None = None
    zipf_residual: float | None = None

    @staticmethod
    def none(features: int) -> Underused:
        """Returns the empty set, as at the start of a run."""
        return Underused(torch.zeros(features, dtype=torch.bool), 0.0, 0.0, 0.0)

    @staticmethod
    def measure(statistics: FiringStatistics, aux: AuxName, rho: float, feature: Collective) -> Underused:
        """Fits the densities of all feature ranks and names the members of `U` under the rule `aux`.

        Collective: two small sums of integers, so that all that is the same for all ranks is so bit for bit.
        """
        density, dead = statistics.density(), statistics.dead()
        ranks = DensityRanks.measure(density, feature)
        trusted = float(statistics.tokens) >= _TRUSTED_WINDOW * statistics.window_tokens
        fit = fit_zipf(ranks) if trusted else None
        under = underutilised(density, ranks, fit, rho) | dead
        members = {"none": torch.zeros_like(dead), "aux_k": dead, "aux_zipf": under}[aux]
        sizes = feature.sum(torch.stack([mask.sum() for mask in (members, dead, under)]))
        shares = [size / ranks.features for size in sizes.tolist()]
        curve = (fit.s, fit.q, fit.r_squared, fit.residual) if fit is not None else ()
        return Underused(members, *shares, *curve)

    def numbers(self) -> dict[str, float | None]:
        """Returns all but the members, as plain values: with the members they restore the set."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "members"}
