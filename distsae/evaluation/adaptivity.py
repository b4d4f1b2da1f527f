"""Measures whether hard tokens get more features.

Token Choice gives every token the same number; Mutual and Feature Choice may give more where the language model is
surprised. The measures are the spread of the features per token, and their mean within equal shares of the tokens
ordered by the loss on the next token, or by something that might explain it: how frequent the token is, where it
stands, how large its activation is. Correlations are in `distsae.evaluation.rank_correlation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from distsae.allocation.segments import counted
from distsae.evaluation.bootstrap import Array

__all__ = ["EqualShares", "features_per_token", "in_shares", "mean_features", "spread"]


def features_per_token(token: Tensor, rows: int) -> Tensor:
    """Returns the number of matches of each row, `[rows]` int64, from the row index of each match, `[matches]`."""
    return counted(token, rows)


def mean_features(sums: Mapping[str, Array]) -> Array:
    """Returns L0, the mean of features per token, `[samples]`. It reads the sums `matches` and `rows`."""
    return sums["matches"] / sums["rows"]


def spread(sums: Mapping[str, Array]) -> Array:
    """Returns the population standard deviation of features per token, `[samples]`.

    It reads the sums `matches`, `matches_square` and `rows`.
    """
    mean = sums["matches"] / sums["rows"]
    return np.sqrt(np.maximum(sums["matches_square"] / sums["rows"] - mean**2, 0.0))


@dataclass(frozen=True, kw_only=True)
class EqualShares:
    """A number of each row within equal shares of the rows, ordered by another number.

    Args:
        order: mean of the ordering number in each share, `[shares]`.
        mean: mean of the number in each share, `[shares]`.
        low: its 25th percentile in each share, `[shares]`.
        high: its 75th percentile in each share, `[shares]`.
        rows: number of rows in each share, `[shares]`.
    """

    order: Array
    mean: Array
    low: Array
    high: Array
    rows: Array


def in_shares(values: Array, order: Array, shares: int = 10) -> EqualShares:
    """Splits the rows into shares of equal size by `order`, lowest first; equal rows keep their order.

    Args:
        values: features per token, or another number of each row, `[rows]`.
        order: number to order by, such as the loss on the next token, `[rows]`; rows where it is NaN are left out.
        shares: number of shares; with fewer rows than that, each row is a share.
    """
    values, order = values.astype(np.float64), order.astype(np.float64)
    known = np.flatnonzero(np.isfinite(order))
    sorted_rows = known[np.argsort(order[known], kind="stable")]
    parts = [part for part in np.array_split(sorted_rows, shares) if part.size]

    def mean(numbers: Array) -> Array:
        return np.array([numbers[part].mean() for part in parts], dtype=np.float64)

    def percentile(numbers: Array, percent: int) -> Array:
        return np.array([np.percentile(numbers[part], percent) for part in parts], dtype=np.float64)

    return EqualShares(
        order=mean(order),
        mean=mean(values),
        low=percentile(values, 25),
        high=percentile(values, 75),
        rows=np.array([part.size for part in parts], dtype=np.float64),
    )
