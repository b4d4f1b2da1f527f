"""How much of the activations a reconstruction keeps.

FVU is `sum ||x - x_hat||^2 / sum ||x - mean(x)||^2` with the mean over all evaluated rows; NMSE divides by
`sum ||x||^2` instead. A reconstruction that is always the mean has FVU 1. A few rows of huge norm can own both, so
there are three measures in which every row weighs the same: the mean of `||x - x_hat|| / ||x||`, the mean cosine of `x`
and `x_hat`, and the FVU of `x / ||x||` and `x_hat / ||x||`. Rows of norm zero do not count in these three.

Sums are kept per context, in float64: rows of one context are not independent, so confidence intervals resample
contexts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from distsae.evaluation.bootstrap import Array

__all__ = [
    "activation_sums",
    "cosine",
    "error_sums",
    "fvu",
    "fvu_unit_norm",
    "nmse",
    "relative_error",
    "relative_errors",
    "variance",
]


def activation_sums(x: Tensor, reference: Tensor, counted: Tensor) -> dict[str, Tensor]:
    """Returns the sums over the activations of each context that all measures share.

    Args:
        x: activations, `[contexts, rows, d_in]`.
        reference: any fixed point near the mean, `[d_in]`; it only avoids cancellation in the centred sums.
        counted: rows that count, `[contexts, rows]` bool.

    Returns:
        `square`, `centred_square`, `rows`, `nonzero_rows`, `[contexts]`, and `centred`, `unit_sum`, `[contexts, d_in]`,
        float64 on the device of `x`. `unit_sum` is the sum of `x / ||x||` over the `nonzero_rows`.
    """
    x = x.double().masked_fill(~counted[..., None], 0.0)
    norm = x.square().sum(-1).sqrt()
    centred = (x - reference.double()).masked_fill(~counted[..., None], 0.0)
    return {
        "square": x.square().sum((1, 2)),
        "centred_square": centred.square().sum((1, 2)),
        "centred": centred.sum(1),
        "rows": counted.double().sum(1),
        "nonzero_rows": (norm > 0).double().sum(1),
        "unit_sum": _divided(x, norm[..., None]).sum(1),
    }


def error_sums(x: Tensor, x_hat: Tensor, counted: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Returns the sums over the reconstruction of each context, and the squared error of each row.

    Args:
        x: activations, `[contexts, rows, d_in]`.
        x_hat: their reconstruction, as `x`.
        counted: rows that count, `[contexts, rows]` bool.

    Returns:
        `error`, `relative_error`, `cosine` and `unit_error`, `[contexts]` float64 on the device of `x`: sums of
        `||x - x_hat||^2`, `||x - x_hat|| / ||x||`, the cosine and `||x - x_hat||^2 / ||x||^2`. And `||x - x_hat||^2` of
        each row, `[contexts, rows]` float64; 0 where it does not count.
    """
    x, x_hat = x.double(), x_hat.double()
    error = (x - x_hat).square().sum(-1).masked_fill(~counted, 0.0)
    square = x.square().sum(-1).masked_fill(~counted, 0.0)
    norm = square.sqrt()
    # The reconstruction of norm zero has no direction; its cosine counts as 0.
    cosines = _divided((x * x_hat).sum(-1), norm * x_hat.square().sum(-1).sqrt())
    sums = {
        "error": error.sum(1),
        "relative_error": _divided(error.sqrt(), norm).sum(1),
        "cosine": cosines.sum(1),
        "unit_error": _divided(error, square).sum(1),
    }
    return sums, error


def relative_errors(x: Tensor, x_hat: Tensor) -> Tensor:
    """Returns `||x - x_hat|| / ||x||` of each row `[d_in]`, `[...]` float64; 0 for a row of norm zero."""
    x, x_hat = x.double(), x_hat.double()
    return _divided((x - x_hat).square().sum(-1).sqrt(), x.square().sum(-1).sqrt())


def fvu(sums: Mapping[str, Array]) -> Array:
    """Returns the fraction of variance unexplained, `[samples]`, from sums `[samples, ...]` over contexts.

    It reads `error`, and `rows`, `centred`, `centred_square` of `activation_sums`. NaN where all rows are equal.
    """
    return _ratio(sums["error"], variance(sums) * sums["rows"])


def variance(sums: Mapping[str, Array]) -> Array:
    """Returns `mean ||x - mean(x)||^2` over rows, `[samples]`. It reads the sums of `activation_sums`."""
    return _ratio(_spread(sums["centred_square"], sums["centred"], sums["rows"]), sums["rows"])


def nmse(sums: Mapping[str, Array]) -> Array:
    """Returns the squared error over the squared norm, `[samples]`. It reads the sums `error` and `square`."""
    return _ratio(sums["error"], sums["square"])


def relative_error(sums: Mapping[str, Array]) -> Array:
    """Returns the mean of `||x - x_hat|| / ||x||` over rows, `[samples]`; rows of norm zero are left out.

    It reads the sums `relative_error` and `nonzero_rows`.
    """
    return _ratio(sums["relative_error"], sums["nonzero_rows"])


def cosine(sums: Mapping[str, Array]) -> Array:
    """Returns the mean cosine of `x` and `x_hat` over rows, `[samples]`; rows of norm zero are left out.

    It reads the sums `cosine` and `nonzero_rows`.
    """
    return _ratio(sums["cosine"], sums["nonzero_rows"])


def fvu_unit_norm(sums: Mapping[str, Array]) -> Array:
    """Returns the FVU of rows and reconstructions divided by `||x||`, `[samples]`; rows of norm zero are left out.

    It reads the sums `unit_error`, `unit_sum` and `nonzero_rows`.
    """
    rows = sums["nonzero_rows"]
    return _ratio(sums["unit_error"], _spread(rows, sums["unit_sum"], rows))  # each row's square is 1


def _spread(square: Array, total: Array, rows: Array) -> Array:
    """Returns the sum of squared distances from the mean: from sums of squares, of vectors, and the number of rows."""
    spread = square - _ratio(np.square(total).sum(-1), rows)
    # Equal rows have no variance; a remainder this small is rounding.
    return np.where(spread > 1e-12 * square, spread, 0.0)


def _ratio(numerator: Array, denominator: Array) -> Array:
    out = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def _divided(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Returns the quotient, and 0 where the denominator is 0."""
    return torch.where(denominator > 0, numerator / denominator, 0.0)
