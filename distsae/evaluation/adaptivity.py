"""Measures whether hard tokens get more features.

Token Choice gives every token the same number; Mutual and Feature Choice may give more where the language model is
surprised. The measures are the spread of the features per token, and their mean within equal shares of the tokens
ordered by the loss on the next token.
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
    """Returns the number of matches of each row, `[rows]` int64, from the row index of each match, `[matches]`."""
    return torch.bincount(token, minlength=rows)


def mean_features(sums: Mapping[str, Array]) -> Array:
    """Returns L0, the mean of features per token, `[samples]`. It reads the sums `matches` and `rows`."""
    return sums["matches"] / sums["rows"]


def spread(sums: Mapping[str, Array]) -> Array:
    """Returns the population standard deviation of features per token, `[samples]`.

    It reads the sums `matches`, `matches_square` and `rows`.
    """
    mean = sums["matches"] / sums["rows"]
    return np.sqrt(np.maximum(sums["matches_square"] / sums["rows"] - mean**2, 0.0))


def rank_correlation(features: Array, loss: Array) -> float:
    """Returns Spearman's correlation of features per token and loss over the rows with a loss.

    It is NaN if one of the two is constant, or if fewer than two rows have a loss.
    """
    has_loss = np.isfinite(loss)
    features, loss = features[has_loss], loss[has_loss]
    if features.size < 2 or np.ptp(features) == 0 or np.ptp(loss) == 0:
        return float("nan")
    return float(spearmanr(features, loss).statistic)


@dataclass(frozen=True, kw_only=True)
class LossBins:
    """Features per token within equal shares of the rows, ordered by loss.

    Args:
        loss: mean loss of each bin in nats, `[bins]`.
        mean: mean features per token of each bin, `[bins]`.
        low: 25th percentile of features per token of each bin, `[bins]`.
        high: 75th percentile of features per token of each bin, `[bins]`.
        rows: number of rows in each bin, `[bins]`.
    """

    loss: Array
    mean: Array
    low: Array
    high: Array
    rows: Array


def by_loss(features: Array, loss: Array, bins: int = 10) -> LossBins:
    """Splits the rows that have a loss into bins of equal size by loss, lowest first.

    Args:
        features: features per token, or another number of each row, `[rows]`.
        loss: loss on the next token in nats, `[rows]`; NaN for rows without one.
        bins: number of bins; with fewer rows than that, each row is a bin.
    """
    has_loss = np.flatnonzero(np.isfinite(loss))
    order = has_loss[np.argsort(loss[has_loss], kind="stable")]
    parts = [part for part in np.array_split(order, bins) if part.size]

    def mean(values: Array) -> Array:
        return np.array([values[part].mean() for part in parts], dtype=np.float64)

    def percentile(values: Array, percent: int) -> Array:
        return np.array([np.percentile(values[part], percent) for part in parts], dtype=np.float64)

    return LossBins(
        loss=mean(loss),
        mean=mean(features),
        low=percentile(features, 25),
        high=percentile(features, 75),
        rows=np.array([part.size for part in parts], dtype=np.float64),
    )
