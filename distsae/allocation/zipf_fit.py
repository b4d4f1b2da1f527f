"""Fits the Zipf-Mandelbrot law to measured feature densities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

__all__ = ["ZipfFit", "fit_zipf"]

_POINTS = 256
_FEWEST = 8


@dataclass(frozen=True)
class ZipfFit:
    """`density(rank) = scale * (rank + q)^-s`, fitted on logarithmic axes.

    Args:
        s: exponent.
        q: offset of the rank.
        r_squared: share of the variance of log density, over log-spaced ranks, that the curve explains.
        predicted: the curve's density at ranks 1, 2, ..., fp64 `[d_sae]`, descending.
    """

    s: float
    q: float
    r_squared: float
    predicted: Tensor


def fit_zipf(density: Tensor) -> ZipfFit | None:
    """Fits a Zipf-Mandelbrot law to the densities of features.

    The fit is robust (soft L1 on log density) and sees ranks spaced evenly on the logarithmic axis, so that neither
    the many rare features nor the few frequent ones decide it alone. Features that never fired have no logarithm and
    are left out; they do count in the length of the predicted curve.

    Args:
        density: matches per token, any order, `[d_sae]`.

    Returns:
        The fit, or None if fewer than eight features have fired.
    """
    values = np.sort(density.double().cpu().numpy())[::-1]
    alive = int((values > 0).sum())
    if alive < _FEWEST:
        return None
    rank = np.unique(np.geomspace(1, alive, _POINTS).round().astype(int))
    log_density = np.log(values[rank - 1])

    def curve(parameters: np.ndarray, at: np.ndarray) -> np.ndarray:
        log_scale, s, log_q = parameters
        return np.asarray(log_scale - s * np.log(at + np.expm1(log_q)))

    start = np.array([log_density[0], 1.0, np.log1p(1.0)])
    bounds = ([-np.inf, 0.0, 0.0], [np.inf, 20.0, np.log1p(10.0 * len(values))])

    def misfit(parameters: np.ndarray) -> np.ndarray:
        return np.asarray(curve(parameters, rank) - log_density)

    found = least_squares(misfit, start, bounds=bounds, loss="soft_l1", f_scale=0.1, x_scale="jac")
    residual = misfit(found.x)
    spread = float(((log_density - log_density.mean()) ** 2).sum())
    return ZipfFit(
        s=float(found.x[1]),
        q=float(np.expm1(found.x[2])),
        r_squared=1.0 - float((residual**2).sum()) / spread if spread > 0 else 1.0,
        predicted=torch.from_numpy(np.exp(curve(found.x, np.arange(1, len(values) + 1)))),
    )
