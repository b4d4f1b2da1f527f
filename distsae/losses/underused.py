"""The set `U` of features that the auxiliary loss trains, defined here and nowhere else.

The paper (arXiv 2411.02124) introduces `aux_zipf_loss` as a generalisation of Gao et al.'s `aux_k`
(arXiv 2406.04093) that revives underutilised features along with dead ones. Our reading: a feature is underutilised
if its density is below a share `rho` of what the Zipf-Mandelbrot curve, fitted to all densities, expects at its rank.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from distsae.allocation import DensityRanks, ZipfFit, cache_blocks, fit_zipf
from distsae.collective import Collective
from distsae.losses.firing import FiringStatistics

__all__ = ["AuxName", "Underused", "underutilised"]

AuxName = Literal["none", "aux_k", "aux_zipf"]

_TRUSTED_WINDOW = 0.25
"""Share of the density window that must be filled before a fit is used."""


def underutilised(density: Tensor, ranks: DensityRanks, fit: ZipfFit | None, rho: float) -> Tensor:
    """Marks the features whose density is below `rho` times the fitted curve's value at their rank.

    Args:
        density: matches per token of this rank's features, `[d_sae_local]`.
        ranks: features of all ranks, ordered by density; measured from `density`.
        fit: the fitted curve; with None no feature is marked.
        rho: share of the curve's value, in (0, 1].

    Returns:
        bool `[d_sae_local]`.
    """
    marks = torch.zeros_like(density, dtype=torch.bool)
    if fit is not None:
        least = (rho * fit.density(ranks.rank_of_bin)).to(density)
        for density_block, bins_block, marks_block in cache_blocks(density, ranks.bins, marks):
            torch.lt(density_block, least[bins_block], out=marks_block)
    return marks


@dataclass(frozen=True)
class Underused:
    """The set `U` at one moment of training, and the numbers it follows from.

    The four numbers of the curve are None until the density window holds enough tokens for a fit, or
    while fewer than eight features have fired.

    Args:
        members: local features in `U`, bool `[d_sae_local]`.
        share: size of `U` over all ranks, as a share of `d_sae`.
        dead_share: number of dead features, as a share of `d_sae`.
        underutilised_share: number of underutilised features, dead ones included, as a share of `d_sae`.
        zipf_s: exponent of the curve fitted to the densities.
        zipf_q: offset of the curve.
        zipf_r_squared: share of the variance of log density that the curve explains.
        zipf_residual: root mean square distance of log density from the curve, in nats.
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
        """Returns the empty set, as at the start of a run, on a rank with `features` features."""
        return Underused(torch.zeros(features, dtype=torch.bool), 0.0, 0.0, 0.0)

    @staticmethod
    def measure(statistics: FiringStatistics, aux: AuxName, rho: float, feature: Collective) -> Underused:
        """Fits the densities of the features of all ranks and finds the members of `U`; collective.

        Nothing but integers is summed over ranks, so the numbers are equal bit for bit on all ranks and meshes.

        Args:
            statistics: firing statistics of this rank's features.
            aux: rule that defines `U`.
            rho: share of the curve's value below which a density is underutilised.
            feature: the ranks that share the features.
        """
        density = statistics.density()
        dead = statistics.dead()
        ranks = DensityRanks.measure(density, feature)
        trusted = float(statistics.tokens) >= _TRUSTED_WINDOW * statistics.window_tokens
        fit = fit_zipf(ranks) if trusted else None
        rare = underutilised(density, ranks, fit, rho) | dead
        members = {"none": torch.zeros_like(dead), "aux_k": dead, "aux_zipf": rare}[aux]
        sizes = feature.sum(torch.stack([members.sum(), dead.sum(), rare.sum()]))
        shares = [size / ranks.features for size in sizes.tolist()]
        curve = (fit.s, fit.q, fit.r_squared, fit.residual) if fit is not None else ()
        return Underused(members, *shares, *curve)

    def numbers(self) -> dict[str, float | None]:
        """Returns everything but the members as plain numbers; together with the members they restore the set."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "members"}
