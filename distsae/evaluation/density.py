"""How evenly the features share the work: density against rank, dead and underutilised features.

Densities are measured against Zipf's law: features are ranked by density, and a Zipf curve is fitted. A feature below a
tenth of the curve at its rank is underutilised, one without a match over the evaluated rows is dead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.allocation import DensityRanks, fit_zipf
from distsae.losses import underutilised

__all__ = ["UNDERUTILISED_BELOW", "Densities", "summarise"]

UNDERUTILISED_BELOW = 0.1
"""A feature is underutilised if its density is below this share of the Zipf curve at its rank."""


@dataclass(frozen=True, kw_only=True)
class Densities:
    """Densities of the features, their Zipf fit, and shares of badly used features.

    There is no fit if too few features fired; everything that comes from the fit is None then.

    Args:
        density: matches per row of each feature, `[d_sae]` float64.
        predicted: fitted Zipf-Mandelbrot curve in rank order, `[d_sae]` float64; None without a fit.
        dead_share: share of features without a match.
        underutilised_share: share of features below `UNDERUTILISED_BELOW` of the curve, dead ones included; the dead
            share without a fit.
        zipf_s: exponent of the fit; None without a fit.
        zipf_q: offset of the ranks in the fit; None without a fit.
        zipf_r_squared: coefficient of determination of the fit to log densities; None without a fit.
        zipf_residual: root mean square distance of log densities from the curve, in nats; None without a fit.
        top_feature_share: share of all matches that the densest 1% of the features take; None if none fired.
    """

    density: Tensor
    predicted: Tensor | None
    dead_share: float
    underutilised_share: float
    zipf_s: float | None
    zipf_q: float | None
    zipf_r_squared: float | None
    zipf_residual: float | None
    top_feature_share: float | None


def summarise(counts: Tensor, rows: int) -> Densities:
    """Returns densities, their fit and the shares, from the matches of each feature over `rows` rows, `[d_sae]`."""
    density = counts.double().cpu() / rows
    ranks = DensityRanks.measure(density)
    fit = fit_zipf(ranks)
    dead = density == 0
    return Densities(
        density=density,
        predicted=fit.density(torch.arange(1, density.numel() + 1)) if fit is not None else None,
        dead_share=float(dead.double().mean()),
        underutilised_share=float((underutilised(density, ranks, fit, UNDERUTILISED_BELOW) | dead).double().mean()),
        zipf_s=fit.s if fit is not None else None,
        zipf_q=fit.q if fit is not None else None,
        zipf_r_squared=fit.r_squared if fit is not None else None,
        zipf_residual=fit.residual if fit is not None else None,
        top_feature_share=ranks.top_share(),
    )
