"""How much of the activations a reconstruction keeps.

FVU is `sum ||x - x_hat||^2 / sum ||x - mean(x)||^2` with the mean over everything that was evaluated, NMSE the same
over `sum ||x||^2`. A reconstruction that only knows the mean has FVU 1. Sums are kept per context, in float64: rows
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
    """Returns `||x - x_hat||^2` of every row, `[rows]` float64, for `x` and `x_hat` `[rows, d_in]`."""
    return (x.double() - x_hat.double()).square().sum(-1)


def activation_sums(x: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """Returns what FVU and NMSE need to know about the activations, per context.

    Args:
        x: activations, `[contexts, rows, d_in]`.
        reference: any fixed point near the mean, `[d_in]`; it only keeps the centred sums from cancelling.

    Returns:
        `square` and `centred_square` `[contexts]`, `centred` `[contexts, d_in]`, all float64 on the CPU.
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

    Keys: `error`, and `rows`, `centred`, `centred_square` of `activation_sums`. NaN where all rows are equal.
    """
    return _ratio(sums["error"], variance(sums) * sums["rows"])


def variance(sums: Mapping[str, Array]) -> Array:
    """Returns `mean ||x - mean(x)||^2` over rows, summed over dimensions, `[samples]`. Keys as for `fvu`."""
    total = sums["centred_square"] - np.square(sums["centred"]).sum(-1) / sums["rows"]
    # What rounding leaves of a variance of nothing is no variance.
    return np.where(total > 1e-12 * sums["centred_square"], total, 0.0) / sums["rows"]


def nmse(sums: Mapping[str, Array]) -> Array:
    """Returns the squared error over the squared norm, `[samples]`. Keys: `error`, `square`."""
    return _ratio(sums["error"], sums["square"])


def _ratio(numerator: Array, denominator: Array) -> Array:
    out = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out
