"""Fits the Zipf-Mandelbrot law to measured feature densities.

For a given offset `q` the law is a straight line between `ln density` and `ln(rank + q)`, and its slope and height have
a closed form. So the fit tries a grid of offsets, all at once, and then finer grids around the best: there is no start
to choose and no local minimum to fall into.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distsae.allocation.density_ranks import DensityRanks

__all__ = ["ZipfFit", "fit_zipf"]

_POINTS = 256  # ranks that are fitted, at most
_FEWEST = 8  # live features without which there is no fit
_OFFSETS = 48
_FINER_OFFSETS = 9
_REFINEMENTS = 4
_SOFT_L1_WIDTH = 0.1  # nats: where soft L1 turns from square to linear
_LEAST_CAUCHY_WIDTH = 0.02  # nats: a few times the width of a bin of density
_REWEIGHTINGS = 8

_Array = NDArray[np.float64]
_Robust = Callable[[_Array], tuple[_Array, _Array]]
"""Weights and losses of squared misfits, in units of the width."""


@dataclass(frozen=True)
class ZipfFit:
    """`density(rank) = scale * (rank + q)^-s`, fitted on logarithmic axes.

    Args:
        s: exponent, not negative.
        q: offset of the rank, not negative.
        log_scale: logarithm of `scale`.
        r_squared: share of the variance of log density, over the fitted points, that the curve explains; negative if
            a constant would do better.
        residual: the Zipf residual, the root mean square of `ln(density / expected)` over the fitted points, in nats.
            All points count equally, also those to which the fit gave little weight.
    """

    s: float
    q: float
    log_scale: float
    r_squared: float
    residual: float

    def density(self, rank: Tensor) -> Tensor:
        """Returns the densities that the curve expects at the given ranks, fp64, the shape of `rank`."""
        return (self.log_scale - self.s * (rank.double() + self.q).log()).exp()


def fit_zipf(density: Tensor | DensityRanks) -> ZipfFit | None:
    """Fits a Zipf-Mandelbrot law to the densities of features.

    The fit sees ranks spaced evenly on the logarithmic axis, none twice, so that neither the many rare features nor the
    few frequent ones decide it alone. It is robust: first a soft L1 loss on log density, then a Cauchy loss whose width
    follows the median misfit, in which features far off the curve, always on or hardly ever, weigh next to nothing.
    Features that never fired have no logarithm and are left out. Features off the curve keep their ranks, though: eight
    features that are always on move all others by eight ranks, which the offset `q` takes up.

    Args:
        density: matches per token of all features, in any order, `[d_sae]`; or the features ordered by density, as a
            run measures them over all its processes.

    Returns:
        The fit, the same on every rank and mesh, or None if fewer than eight features have fired.
    """
    ranks = density if isinstance(density, DensityRanks) else DensityRanks.measure(density)
    alive = ranks.alive
    if alive < _FEWEST:
        return None
    rank = np.unique(np.geomspace(1, alive, _POINTS).round().astype(np.int64))
    log_density = np.log(ranks.density(torch.from_numpy(rank)).cpu().numpy())

    def lines_at(log_offsets: _Array, misfit: _Array, robust: _Robust, width: float) -> _Lines:
        return _robust_lines(np.log(rank + np.expm1(log_offsets)[:, None]), log_density, misfit, robust, width)

    log_offsets = np.linspace(0.0, np.log1p(10.0 * ranks.features), _OFFSETS)  # ln(1 + q)
    lines = lines_at(log_offsets, np.zeros((1, len(rank))), _soft_l1, _SOFT_L1_WIDTH)
    for _ in range(2):
        # 1.4826 times the median deviation is the standard deviation of a normal distribution.
        width = max(2 * 1.4826 * float(np.median(np.abs(lines.misfit[lines.best]))), _LEAST_CAUCHY_WIDTH)
        lines = lines_at(log_offsets, lines.misfit, _cauchy, width)
    for _ in range(_REFINEMENTS):
        before = log_offsets[max(lines.best - 1, 0)]
        after = log_offsets[min(lines.best + 1, len(log_offsets) - 1)]
        log_offsets = np.linspace(before, after, _FINER_OFFSETS)
        lines = lines_at(log_offsets, lines.misfit[lines.best][None], _cauchy, width)

    misfit = lines.misfit[lines.best]
    spread = float(((log_density - log_density.mean()) ** 2).sum())
    return ZipfFit(
        s=float(lines.s[lines.best]),
        q=float(np.expm1(log_offsets[lines.best])),
        log_scale=float(lines.log_scale[lines.best]),
        r_squared=1.0 - float((misfit**2).sum()) / spread if spread > 0 else 1.0,
        residual=float(np.sqrt((misfit**2).mean())),
    )


@dataclass(frozen=True)
class _Lines:
    """The line `log_scale - s * log_rank` for each offset.

    Args:
        s: negative slope of each line, at least 0, `[offsets]`.
        log_scale: height of each line at `log_rank` 0, `[offsets]`.
        misfit: measured minus expected log density, `[offsets, points]`.
        best: index of the offset with the least loss.
    """

    s: _Array
    log_scale: _Array
    misfit: _Array
    best: int


def _robust_lines(log_rank: _Array, log_density: _Array, misfit: _Array, robust: _Robust, width: float) -> _Lines:
    """Fits a line for each offset by iteratively reweighted least squares.

    Args:
        log_rank: `ln(rank + q)`, `[offsets, points]`.
        log_density: measured log density, `[points]`.
        misfit: misfits that give the first weights, `[offsets, points]` or `[1, points]`.
        robust: loss and its weights.
        width: unit of the misfits in that loss, in nats.
    """
    for _ in range(_REWEIGHTINGS):
        weight, _loss = robust((misfit / width) ** 2)
        weight = weight / weight.sum(1, keepdims=True)
        x = log_rank - (weight * log_rank).sum(1, keepdims=True)
        level = (weight * log_density).sum(1, keepdims=True)
        slope = (weight * x * (log_density - level)).sum(1, keepdims=True) / (weight * x**2).sum(1, keepdims=True)
        s = np.maximum(-slope, 0.0)
        log_scale = level + s * (log_rank - x)[:, :1]
        misfit = log_density - (log_scale - s * log_rank)
    _weight, losses = robust((misfit / width) ** 2)
    loss = losses.sum(1)
    return _Lines(s[:, 0], log_scale[:, 0], misfit, int(loss.argmin()))


def _soft_l1(square: _Array) -> tuple[_Array, _Array]:
    """Returns the weights and losses of soft L1, which grows linearly far from 0."""
    root = np.sqrt(1 + square)
    return 1 / root, 2 * (root - 1)


def _cauchy(square: _Array) -> tuple[_Array, _Array]:
    """Returns the weights and losses of Cauchy, in which a point far from the line weighs next to nothing."""
    return 1 / (1 + square), np.log1p(square)
