"""How evenly the features share the work: density against rank, dead and underutilised features.

Zipf's law is what a healthy dictionary is measured against: sorted by density, a feature that lies below a tenth of
the fitted curve at its rank is underutilised; one without a single match over the evaluated rows is dead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.allocation import fit_zipf

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
    """

    density: Tensor
    predicted: Tensor | None
    dead_share: float
    underutilised_share: float
    zipf_s: float | None
    zipf_q: float | None
    zipf_r_squared: float | None


def summarise(counts: Tensor, rows: int) -> Densities:
    """Turns matches per feature, `[d_sae]`, over `rows` rows into densities, their fit and the two shares."""
    density = counts.double().cpu() / rows
    fit = fit_zipf(density)
    dead = float((density == 0).double().mean())
    if fit is None:
        return Densities(
            density=density,
            predicted=None,
            dead_share=dead,
            underutilised_share=dead,
            zipf_s=None,
            zipf_q=None,
            zipf_r_squared=None,
        )
    predicted = fit.predicted.double().cpu()
    ranked = torch.sort(density, descending=True).values
    return Densities(
        density=density,
        predicted=predicted,
        dead_share=dead,
        underutilised_share=float(((ranked < UNDERUTILISED_BELOW * predicted) | (ranked == 0)).double().mean()),
        zipf_s=fit.s,
        zipf_q=fit.q,
        zipf_r_squared=fit.r_squared,
    )
