"""How evenly the features share the work: density against rank, dead and underutilised features.

Zipf's law is what a healthy dictionary is measured against: sorted by density, a feature that lies below a tenth of
the fitted curve at its rank is underutilised; one without a single match over the evaluated rows is dead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.allocation import DensityRanks, fit_zipf
from distsae.losses import underutilised

__all__ = ["UNDERUTILISED_BELOW", "Densities", "summarise"]

UNDERUTILISED_BELOW = 0.1
"""Share of the Zipf curve's value under which a feature counts as underutilised."""


@dataclass(frozen=True, kw_only=True)
class Densities:
    """The features' densities and what they say.

    Args:
        density: matches per row of every feature, `[d_sae]` float64.
        predicted: the fitted Zipf-Mandelbrot curve in rank order, `[d_sae]` float64; None if there is no fit.
        dead_share: share of features without a match.
        underutilised_share: share of features below `UNDERUTILISED_BELOW` of the curve, dead ones included; without
            a fit, the dead ones.
        zipf_s: exponent of the fit; None if too few features fired for one, as are the next two.
        zipf_q: offset of the fit's ranks.
        zipf_r_squared: quality of the fit, of log densities.
        zipf_residual: root mean square distance of log density from the curve, in nats.
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
    """Turns matches per feature, `[d_sae]`, over `rows` rows into densities, their fit and the two shares."""
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
