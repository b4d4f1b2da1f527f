"""How much of the activations a reconstruction keeps.

FVU is `sum ||x - x_hat||^2 / sum ||x - mean(x)||^2` with the mean over all evaluated rows; NMSE divides by
`sum ||x||^2` instead. A reconstruction that is always the mean has FVU 1. Sums are kept per context, in float64: rows
of one context are not independent, so confidence intervals resample contexts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from distsae.evaluation.bootstrap import Array

__all__ = ["activation_sums", "error_per_row", "fvu", "nmse", "variance"]


def error_per_row(x: Tensor, x_hat: Tensor) -> Tensor:
    """Returns `||x - x_hat||^2` of each row, `[rows]` float64, from `x` and `x_hat`, `[rows, d_in]`."""
    return (x.double() - x_hat.double()).square().sum(-1)


def activation_sums(x: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """Returns the sums over the activations of each context that FVU and NMSE are made of.

    Args:
        x: activations, `[contexts, rows, d_in]`.
        reference: any fixed point near the mean, `[d_in]`; it only avoids cancellation in the centred sums.

    Returns:
        `square`, `centred_square` and `rows`, `[contexts]`, and `centred`, `[contexts, d_in]`, float64 on the CPU.
    """
    x = x.double()
    centred = x - reference.double()
    return {
        "square": x.square().sum((1, 2)).cpu(),
        "centred_square": centred.square().sum((1, 2)).cpu(),
        "centred": centred.sum(1).cpu(),
        "rows": torch.full((x.shape[0],), float(x.shape[1]), dtype=torch.float64),
    }


def fvu(sums: Mapping[str, Array]) -> Array:
    """Returns the fraction of variance unexplained, `[samples]`, from sums `[samples, ...]` over contexts.

    It reads `error`, and `rows`, `centred`, `centred_square` of `activation_sums`. NaN where all rows are equal.
    """
    return _ratio(sums["error"], variance(sums) * sums["rows"])


def variance(sums: Mapping[str, Array]) -> Array:
    """Returns `mean ||x - mean(x)||^2` over rows, `[samples]`. It reads the sums of `activation_sums`."""
    total = sums["centred_square"] - np.square(sums["centred"]).sum(-1) / sums["rows"]
    # Equal rows have no variance; a remainder this small is rounding.
    return np.where(total > 1e-12 * sums["centred_square"], total, 0.0) / sums["rows"]


def nmse(sums: Mapping[str, Array]) -> Array:
    """Returns the squared error over the squared norm, `[samples]`. It reads the sums `error` and `square`."""
    return _ratio(sums["error"], sums["square"])


def _ratio(numerator: Array, denominator: Array) -> Array:
    out = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out
