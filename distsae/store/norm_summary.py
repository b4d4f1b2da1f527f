"""What a store knows of the norms of its rows at one hook: median, quantiles, and what the largest rows carry."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import torch

from distsae.errors import WrongInput
from distsae.store.contents import Statistics
from distsae.store.norm_histogram import Count, NormHistogram, OutlierBin, most_frequent, vector
from distsae.store.row_norms import LAST_BIN, ZERO_BIN, first_bin_over, lower_edge, upper_edge

__all__ = ["LEAST_RATIO", "QUANTILES", "TOP_SHARES", "NormSummary", "sealed_statistics"]

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99, 0.999, 0.9999, 1.0)
"""Shares of rows at which `NormSummary.quantiles` gives norms; at 1 it is the upper edge of the largest norm's bin."""

TOP_SHARES = (0.0001, 0.001, 0.01)
"""Shares of rows, those with the largest norms, for which `NormSummary.top_variance_shares` says what they carry."""

LEAST_RATIO = 3.0
"""Least multiple of the median norm that can be a limit: sums of rows are kept from twice the median on."""


class NormSummary:
    """The norms of the train rows at one hook, from the histograms of all train units.

    A limit is a norm; rows with larger norms are over it. Limits are edges of bins, as `limit` gives them; any other
    norm counts as the edge that is nearest to it in log terms. Infinity is a limit that no row is over.

    A row's part of the variance is its `||x - mean||^2`, where `mean` is the mean of all rows. What a bin carries is
    exact for bins that are above twice the median norm in every unit. The other bins have one sum of rows together. It
    is split among them in proportion to their norms, as if their rows had one mean direction. A share of rows that ends
    inside a bin takes rows, and what they carry, from that bin in proportion.

    Args:
        histogram: histogram of all train rows, of which there must be at least one.
    """

    def __init__(self, histogram: NormHistogram) -> None:
        self.histogram = histogram
        self._bins = np.array(histogram.bins)
        self._rows = np.array(histogram.rows)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self._rows.sum())

    @cached_property
    def median(self) -> float:
        """Median norm, interpolated in its bin."""
        return self.quantile(0.5)

    @cached_property
    def quantiles(self) -> dict[float, float]:
        """Norms at `QUANTILES`, interpolated in their bins."""
        return {share: self.quantile(share) for share in QUANTILES}

    def quantile(self, share: float) -> float:
        """Returns the norm below which a share of the rows lies, from 0 to 1, interpolated in its bin."""
        below = np.cumsum(self._rows) - self._rows
        rank = share * self.rows
        index = max(int(np.searchsorted(below, rank, side="left")) - 1, 0)
        number = int(self._bins[index])
        inside = (rank - float(below[index])) / float(self._rows[index])
        return lower_edge(number) + inside * (upper_edge(number) - lower_edge(number))

    @cached_property
    def mean_over_rms(self) -> float:
        """Norm of the mean row over the root mean square of the norms; 0 if all rows are zero."""
        squares = sum(self.histogram.norm_squared)
        return float(np.linalg.norm(self._mean)) / math.sqrt(squares / self.rows) if squares else 0.0

    @cached_property
    def top_variance_shares(self) -> dict[float, float]:
        """Shares of the variance that the rows with the largest norms carry, by their share of the rows."""
        return {share: self.top_variance_share(share) for share in TOP_SHARES}

    def top_variance_share(self, share: float) -> float:
        """Returns the share of the variance that a share of the rows carries, those with the largest norms.

        Args:
            share: share of the rows, from 0 to 1; a part of a row counts as that part of what it carries.
        """
        above = np.cumsum(self._rows[::-1])[::-1] - self._rows  # rows in larger bins
        taken = np.clip(share * self.rows - above, 0, self._rows) / self._rows
        return self._share(taken)

    def limit(self, ratio: float) -> float:
        """Returns the edge of a bin that is nearest to `ratio` times the median norm, in log terms.

        Infinity if the median norm is zero, since then no norm is large for these rows, or if no norm is as large.

        Raises:
            WrongInput: `ratio` is below `LEAST_RATIO`, or not finite.
        """
        if not (LEAST_RATIO <= ratio < math.inf):
            raise WrongInput(
                f"`max_norm_ratio` (={ratio:g}) must be at least {LEAST_RATIO:g}, because statistics can leave out "
                f"rows from twice the median norm on; use {LEAST_RATIO:g} or more, or none"
            )
        limit = ratio * self.median
        return lower_edge(first_bin_over(limit)) if 0 < limit <= upper_edge(LAST_BIN) else math.inf

    @property
    def least_limit(self) -> float:
        """Smallest limit that `statistics` takes: from there on, every unit keeps sums of rows."""
        ordinary = self.histogram.ordinary_bins
        return upper_edge(ordinary[-1]) if ordinary else 0.0

    def rows_over(self, limit: float) -> int:
        """Returns the number of rows over a limit."""
        return int(self._rows[self._over(limit)].sum())

    def share_of_variance_over(self, limit: float) -> float:
        """Returns the share of the variance that the rows over a limit carry."""
        return self._share(self._over(limit).astype(np.float64))

    def positions_over(self, limit: float) -> tuple[Count, ...]:
        """Returns the positions of the rows over a limit, each with its number of rows, most rows first.

        Each unit counts the 8 most frequent positions of each bin from twice its median on. So a count is exact unless
        more positions than that occur in a bin; then it is a lower bound.
        """
        return _counted(outlier.positions for outlier in self._outliers_over(limit))

    def tokens_over(self, limit: float) -> tuple[Count, ...]:
        """Returns the token ids of the rows over a limit, as `positions_over` does the positions."""
        return _counted(outlier.token_ids for outlier in self._outliers_over(limit))

    def statistics(self, limit: float) -> Statistics:
        """Returns the statistics of the rows that are not over a limit, from exact sums.

        Raises:
            WrongInput: the limit is below the norms for which all units keep sums of rows.
        """
        histogram = self.histogram
        over = self._over(limit)
        if over[: len(histogram.ordinary_bins)].any():
            raise WrongInput(
                f"`max_norm` (={limit:g}) must be at least {self.least_limit:g}, from where on every unit keeps sums "
                f"of rows; got a median norm of {self.median:g}; use a larger max_norm_ratio, or none"
            )
        rows = int(self._rows[~over].sum())
        kept = [outlier for outlier in histogram.outliers if outlier.number < _first_over(limit)]
        mean = np.sum([vector(histogram.x), *(vector(outlier.x) for outlier in kept)], axis=0) / rows
        directions = [vector(histogram.direction), *(vector(outlier.direction) for outlier in kept)]
        direction = np.sum(directions, axis=0) / rows
        not_zero = int(self._rows[~over & (self._bins != ZERO_BIN)].sum())
        mean_square = float(np.array(histogram.norm_squared)[~over].sum()) / rows
        return Statistics(
            rows=rows,
            mean=torch.from_numpy(mean).float(),
            mean_norm=float(np.array(histogram.norm)[~over].sum()) / rows,
            variance=max(mean_square - float(mean @ mean), 0.0),
            mean_direction=torch.from_numpy(direction).float(),
            direction_variance=max(not_zero / rows - float(direction @ direction), 0.0),
        )

    def _over(self, limit: float) -> np.ndarray:
        """Returns which bins are over a limit, bool `[bins]`."""
        return self._bins >= _first_over(limit)

    def _outliers_over(self, limit: float) -> list[OutlierBin]:
        return [outlier for outlier in self.histogram.outliers if outlier.number >= _first_over(limit)]

    @cached_property
    def _mean(self) -> np.ndarray:
        """Mean row, fp64 `[d_in]`."""
        histogram = self.histogram
        total = np.sum([vector(histogram.x), *(vector(outlier.x) for outlier in histogram.outliers)], axis=0)
        mean: np.ndarray = total / self.rows
        return mean

    @cached_property
    def _carried(self) -> np.ndarray:
        """What the rows of each bin carry of `sum ||x - mean||^2`, fp64 `[bins]`."""
        histogram, mean = self.histogram, self._mean
        ordinary = len(histogram.ordinary_bins)
        norm = np.array(histogram.norm)
        along = np.zeros(len(histogram.bins))  # mean @ (sum of x in the bin)
        if norm[:ordinary].any():
            along[:ordinary] = float(mean @ vector(histogram.x)) * norm[:ordinary] / norm[:ordinary].sum()
        along[ordinary:] = [float(mean @ vector(outlier.x)) for outlier in histogram.outliers]
        carried = np.array(histogram.norm_squared) - 2 * along + self._rows * float(mean @ mean)
        return np.maximum(carried, 0.0)

    def _share(self, taken: np.ndarray) -> float:
        """Returns the share of the variance that a part of each bin carries; `taken` is fp64 `[bins]`."""
        total = float(self._carried.sum())
        return float(taken @ self._carried) / total if total else 0.0


def _first_over(limit: float) -> float:
    """Returns the number of the lowest bin over a limit, which may be 0; infinity if no bin is over it."""
    if limit <= 0:
        return ZERO_BIN + 1
    return math.inf if limit == math.inf else first_bin_over(limit)


def _counted(lists: Iterable[tuple[Count, ...]]) -> tuple[Count, ...]:
    counts: Counter[int] = Counter()
    for counted in lists:
        counts.update(dict(counted))
    return most_frequent(counts)


def sealed_statistics(values: dict[str, Any], norms: NormSummary | None) -> Statistics:
    """Returns the statistics of all train rows at a hook.

    Args:
        values: what the store was sealed with.
        norms: what is known of the rows' norms; None in a store from before histograms were kept.
    """
    measured = None if norms is None else norms.statistics(math.inf)
    return Statistics(
        rows=values["rows"],
        mean=torch.tensor(values["mean"], dtype=torch.float64).float(),
        mean_norm=values["mean_norm"],
        variance=values["variance"],
        mean_direction=None if measured is None else measured.mean_direction,
        direction_variance=None if measured is None else measured.direction_variance,
    )
