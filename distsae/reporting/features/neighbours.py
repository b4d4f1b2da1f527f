"""Features that belong together: by their decoder rows, and by firing on the same rows.

Both are computed for a few features at a time against all others, so that no matrix of features times features exists.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from distsae.reporting.features.largest_of_rows import largest_of_rows

__all__ = ["LEAST_TOGETHER", "Coactivation", "nearest_decoders"]

LEAST_TOGETHER = 3
"""Rows on which two features must fire together to be called correlated: two rare features that happen to meet once
would have a correlation near 1."""

_ELEMENTS = 1 << 23
"""Elements of the largest matrix in memory."""


@torch.no_grad()
def nearest_decoders(W_dec: Tensor, first: int, last: int, most: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns the features with the nearest decoder rows to each of the features `[first, last)`, by cosine.

    Args:
        W_dec: decoder, fp32 `[d_sae, d_in]`.
        first: first feature.
        last: feature behind the last.
        most: features wanted for each.

    Returns:
        Features, int64 `[last - first, most]`, -1 where there are too few; and cosines, fp32, the largest first. Ties
        go to the smaller feature.
    """
    norms = W_dec.norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
    features, cosines = [], []
    for start, stop in _ranges(first, last, len(W_dec)):
        cosine = (W_dec[start:stop] @ W_dec.T) / norms[start:stop, None] / norms
        cosine[torch.arange(stop - start), torch.arange(start, stop)] = -torch.inf
        found, value = largest_of_rows(cosine, most)
        features.append(found)
        cosines.append(value)
    return np.concatenate(features), np.concatenate(cosines)


class Coactivation:
    """Which features fire on the same rows of a sample.

    The correlation of two features is Pearson's, of "does it fire" over the rows of the sample: with `n` rows, of which
    one feature fires on `a`, the other on `b` and both on `c`, it is `(n c - a b) / sqrt(a (n - a) b (n - b))`. The
    counts are whole numbers, so it does not depend on any order.

    Args:
        rows: number of rows in the sample.
        row: row of each match, numbers of any kind, int64 `[matches]`.
        feature: feature of each match, int64 `[matches]`.
        d_sae: number of features.
    """

    def __init__(self, rows: int, row: NDArray[np.int64], feature: NDArray[np.int64], d_sae: int) -> None:
        self.rows = rows
        numbers, place = np.unique(row, return_inverse=True)
        ones = np.ones(len(row), np.int32)
        self._fires = csr_array((ones, (place, feature)), shape=(len(numbers), d_sae))
        self._of_feature = csr_array(self._fires.T)
        self._counts = np.bincount(feature, minlength=d_sae)
        self._d_sae = d_sae

    def correlated(
        self, first: int, last: int, most: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """Returns the features that are most correlated with each of the features `[first, last)`.

        Only features that fire together with it on `LEAST_TOGETHER` rows or more count, and only positive correlations.

        Returns:
            Features, int64 `[last - first, most]`, -1 where there are too few; their correlations, fp64, the largest
            first, ties by feature; and the rows on which both fire, int64.
        """
        feature = np.full((last - first, most), -1, np.int64)
        correlation = np.zeros((last - first, most))
        together = np.zeros((last - first, most), np.int64)
        for start, stop in _ranges(first, last, self._d_sae):
            product = (self._of_feature[start:stop] @ self._fires).tocoo()
            use = (product.data >= LEAST_TOGETHER) & (product.row + start != product.col)
            own = product.row[use].astype(np.int64) + start
            other = product.col[use].astype(np.int64)
            both = product.data[use].astype(np.int64)
            value = self._correlation(own, other, both)
            order = np.lexsort((other, -value, own))
            order = order[value[order] > 0]
            ranked = own[order]
            rank = np.arange(len(ranked)) - np.searchsorted(ranked, ranked)
            chosen = order[rank < most]
            at = own[chosen] - first, rank[rank < most]
            feature[at] = other[chosen]
            correlation[at] = value[chosen]
            together[at] = both[chosen]
        return feature, correlation, together

    def _correlation(
        self, own: NDArray[np.int64], other: NDArray[np.int64], both: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Returns the correlation of pairs; 0 where a feature fires on every row."""
        n = float(self.rows)
        a, b = self._counts[own].astype(np.float64), self._counts[other].astype(np.float64)
        variance = a * (n - a) * b * (n - b)
        value: NDArray[np.float64] = (n * both - a * b) / np.sqrt(np.where(variance > 0, variance, np.inf))
        return value


def _ranges(first: int, last: int, columns: int) -> Iterator[tuple[int, int]]:
    step = max(_ELEMENTS // max(columns, 1), 1)
    for start in range(first, last, step):
        yield start, min(start + step, last)
