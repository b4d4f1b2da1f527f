"""Whether hard tokens get more features.

Token Choice gives every token the same number; Mutual and Feature Choice are free to spend more where the language
model is surprised. Measured by the spread of the features per token, and by their mean within equal shares of the
tokens ordered by the loss of the next token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from distsae.evaluation.bootstrap import Array

__all__ = ["LossBins", "by_loss", "features_per_token", "mean_features", "rank_correlation", "spread"]


def features_per_token(token: Tensor, rows: int) -> Tensor:
    """Returns the number of matches of every row, `[rows]` int64, given the matches' row indices `[matches]`."""
    return torch.bincount(token, minlength=rows)


def mean_features(sums: Mapping[str, Array]) -> Array:
    """Returns L0, the mean of features per token, `[samples]`. Keys: `matches`, `rows`."""
    return sums["matches"] / sums["rows"]


def spread(sums: Mapping[str, Array]) -> Array:
    """Returns the (population) standard deviation of features per token. Keys: `matches`, `matches_square`, `rows`."""
    mean = sums["matches"] / sums["rows"]
    return np.sqrt(np.maximum(sums["matches_square"] / sums["rows"] - mean**2, 0.0))


def rank_correlation(features: Array, loss: Array) -> float:
    """Returns Spearman's correlation of features per token and loss over rows with a loss; NaN if one is constant."""
    has_loss = np.isfinite(loss)
    features, loss = features[has_loss], loss[has_loss]
    if features.size < 2 or np.ptp(features) == 0 or np.ptp(loss) == 0:
        return float("nan")
    return float(spearmanr(features, loss).statistic)


@dataclass(frozen=True, kw_only=True)
class LossBins:
    """Features per token within equal shares of the rows, ordered by loss.

    Args:
        loss: mean loss in each bin, nats, `[bins]`.
        mean: mean features per token, `[bins]`.
        low: 25th percentile of features per token, `[bins]`.
        high: 75th percentile, `[bins]`.
        rows: rows in each bin, `[bins]`.
    """

    loss: Array
    mean: Array
    low: Array
    high: Array
    rows: Array


def by_loss(features: Array, loss: Array, bins: int = 10) -> LossBins:
    """Splits the rows with a loss into `bins` shares of equal size by loss, lowest first.

    Fewer rows than bins give as many bins as rows.
    """
    has_loss = np.flatnonzero(np.isfinite(loss))
    order = has_loss[np.argsort(loss[has_loss], kind="stable")]
    parts = [part for part in np.array_split(order, bins) if part.size]

    def over(values: Array, reduce: str) -> Array:
        percentile = {"low": 25, "high": 75}.get(reduce)
        if percentile is not None:
            return np.array([np.percentile(values[part], percentile) for part in parts], dtype=np.float64)
        return np.array([values[part].mean() for part in parts], dtype=np.float64)

    return LossBins(
        loss=over(loss, "mean"),
        mean=over(features, "mean"),
        low=over(features, "low"),
        high=over(features, "high"),
        rows=np.array([part.size for part in parts], dtype=np.float64),
    )
