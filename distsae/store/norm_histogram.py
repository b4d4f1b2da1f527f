"""The histogram of row norms at one hook: enough to leave out the largest rows without reading them again.

In real language models a few rows have norms a hundred times the median and carry most of the variance. So each unit's
commit record says how many rows lie in each bin of norms (`row_norms.py`), and what they add to the sums that
statistics are made of. Bins from twice the median on also have the sum of their rows, so that the mean of all rows
below such a bin is exact, and the positions and tokens that occur most often there.
"""

from __future__ import annotations

import base64
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from distsae.checked_files import Between, WrongField, shown, typed
from distsae.store.row_norms import LAST_BIN, ZERO_BIN, bin_numbers, lower_edge, row_norms, upper_edge

__all__ = ["Count", "NormHistogram", "OutlierBin", "most_frequent", "vector"]

_MEDIANS = 2
_MOST_FREQUENT = 8
_ROWS_AT_ONCE = 256
_ROUNDING = 1e-6
"""Relative error that sums of rows may have; it is far larger than that of any real sum."""

Count = tuple[Annotated[int, Between(0)], Annotated[int, Between(1)]]
"""A position or a token id, and the number of its rows."""


@dataclass(frozen=True, kw_only=True)
class OutlierBin:
    """What is kept of the rows of one bin beside their number and norms.

    Args:
        number: number of the bin.
        x: sum of `x`, fp64 `[d_in]`, as little-endian bytes.
        direction: sum of `x / ||x||`, in the same way.
        positions: positions with the most rows, up to 8 a unit, most rows first; of equal ones the smallest first.
        token_ids: token ids with the most rows, in the same way; none if they are not known.
    """

    number: int
    x: bytes
    direction: bytes
    positions: tuple[Count, ...]
    token_ids: tuple[Count, ...]


@dataclass(frozen=True, kw_only=True)
class NormHistogram:
    """The rows of a unit, or of several, by the bin of their norm; sums are in float64, of the values as stored.

    Args:
        bins: numbers of the bins that are not empty, ascending.
        rows: number of rows in each of them.
        norm: sum of `||x||` in each of them.
        norm_squared: sum of `||x||^2` in each of them.
        x: sum of `x` over the rows of all bins but the outlier ones, fp64 `[d_in]`, as little-endian bytes.
        direction: sum of `x / ||x||` over these rows, in the same way; rows that are zero add nothing.
        outliers: the last bins of `bins`, those whose lower edge is at least twice the median norm; maybe none.
    """

    bins: tuple[Annotated[int, Between(ZERO_BIN, LAST_BIN)], ...]
    rows: tuple[Annotated[int, Between(1)], ...]
    norm: tuple[float, ...]
    norm_squared: tuple[float, ...]
    x: bytes
    direction: bytes
    outliers: tuple[OutlierBin, ...]

    @property
    def ordinary_bins(self) -> tuple[int, ...]:
        """Numbers of the bins that are not empty and not outlier bins."""
        return self.bins[: len(self.bins) - len(self.outliers)]

    @classmethod
    def of(cls, acts: Tensor, position: Tensor, token_id: Tensor) -> NormHistogram | None:
        """Returns the histogram of a unit's rows, the same for any number of threads; None if a norm is not finite.

        Args:
            acts: activations at one hook, `[rows, d_in]` in the storage dtype.
            position: position of each row in its context, int64 `[rows]`.
            token_id: token at that position, int64 `[rows]`.
        """
        norms = row_norms(acts).numpy()
        if not np.isfinite(norms).all():
            return None
        numbers = bin_numbers(norms)
        bins, inverse = np.unique(numbers, return_inverse=True)
        middle = (len(norms) - 1) // 2
        threshold = _MEDIANS * float(np.partition(norms, middle)[middle]) if len(norms) else 0.0
        outliers = [number for number in bins.tolist() if number != ZERO_BIN and lower_edge(number) >= threshold]
        left_out = np.isin(numbers, outliers)
        return cls(
            bins=tuple(bins.tolist()),
            rows=tuple(np.bincount(inverse, minlength=len(bins)).tolist()),
            norm=tuple(np.bincount(inverse, weights=norms, minlength=len(bins)).tolist()),
            norm_squared=tuple(np.bincount(inverse, weights=np.square(norms), minlength=len(bins)).tolist()),
            x=_sum_without(acts, left_out),
            direction=_sum_without(acts, left_out, norms),
            outliers=tuple(
                _outlier_bin(
                    number, torch.from_numpy(np.flatnonzero(numbers == number)), acts, norms, position, token_id
                )
                for number in outliers
            ),
        )

    @classmethod
    def merged(cls, histograms: Sequence[NormHistogram]) -> NormHistogram:
        """Returns the histogram of the rows of several units of one hook; there must be at least one.

        Its outlier bins are those that are above every unit's ordinary bins. They list all positions and tokens that
        the units list, so a count is too small by the rows of units that do not list it.
        """
        last_ordinary = max((number for h in histograms for number in h.ordinary_bins[-1:]), default=ZERO_BIN)
        bins = sorted({number for h in histograms for number in h.bins})
        index = {number: i for i, number in enumerate(bins)}
        rows = [0] * len(bins)
        norm = [0.0] * len(bins)
        norm_squared = [0.0] * len(bins)
        ordinary = np.zeros(len(histograms[0].x) // 8)
        direction = np.zeros_like(ordinary)
        by_bin: dict[int, list[OutlierBin]] = {}
        for h in histograms:
            for number, count, total, squares in zip(h.bins, h.rows, h.norm, h.norm_squared, strict=True):
                rows[index[number]] += count
                norm[index[number]] += total
                norm_squared[index[number]] += squares
            ordinary += vector(h.x)
            direction += vector(h.direction)
            for outlier in h.outliers:
                if outlier.number > last_ordinary:
                    by_bin.setdefault(outlier.number, []).append(outlier)
                else:
                    ordinary += vector(outlier.x)
                    direction += vector(outlier.direction)
        return cls(
            bins=tuple(bins),
            rows=tuple(rows),
            norm=tuple(norm),
            norm_squared=tuple(norm_squared),
            x=_as_bytes(ordinary),
            direction=_as_bytes(direction),
            outliers=tuple(_together(by_bin[number]) for number in sorted(by_bin)),
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the histogram as JSON values; the sums of rows in base64, which keeps records small."""
        outliers = [{**asdict(outlier), **_sums_as_text(outlier)} for outlier in self.outliers]
        return {**asdict(self), **_sums_as_text(self), "outliers": outliers}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> NormHistogram:
        """Returns the histogram that `to_json` wrote.

        Raises:
            WrongField: a field is missing or not what it must be; `check` finds what does not go together.
        """
        return typed(cls, values)

    def check(self, d_in: int, rows: int, at: str) -> None:
        """Checks that the parts of a histogram from a file go together, so that no computation with it fails.

        Args:
            d_in: width of the rows.
            rows: number of the rows.
            at: place of the histogram in the file.

        Raises:
            WrongField: they do not.
        """
        if any(len(numbers) != len(self.bins) for numbers in (self.rows, self.norm, self.norm_squared)):
            raise WrongField(f"`{at}` must have as many rows, norms and squares as bins; got other numbers of them")
        if any(first >= second for first, second in itertools.pairwise(self.bins)):
            raise WrongField(f"`{at}.bins` must ascend; got another order")
        if sum(self.rows) != rows:
            raise WrongField(f"`{at}.rows` must be {rows} rows in all; got {shown(sum(self.rows))}")
        for number, count, norm, squares in zip(self.bins, self.rows, self.norm, self.norm_squared, strict=True):
            _check_bin(number, count, norm, squares, at)
        outliers = tuple(outlier.number for outlier in self.outliers)
        if outliers != self.bins[len(self.bins) - len(outliers) :]:
            raise WrongField(f"`{at}.outliers` must be of the last bins; got others")
        ordinary = len(self.ordinary_bins)
        _check_sums(self, d_in, sum(self.rows[:ordinary]), sum(self.norm[:ordinary]), at)
        for index, outlier in enumerate(self.outliers):
            most = self.rows[ordinary + index]
            _check_sums(outlier, d_in, most, self.norm[ordinary + index], f"{at}.outliers.{index}")
            for counts in (outlier.positions, outlier.token_ids):
                least = 0 if counts is outlier.token_ids else 1  # tokens may be unknown
                if not least <= sum(listed for _, listed in counts) <= most:
                    raise WrongField(f"`{at}.outliers.{index}` must list {least} to {most} rows; got others")


def vector(x: bytes) -> np.ndarray:
    """Returns a sum of rows, fp64 `[d_in]`, from its bytes."""
    return np.frombuffer(x, "<f8").astype(np.float64)


def most_frequent(counts: Counter[int]) -> tuple[Count, ...]:
    """Returns all counts, the largest first; of equal ones the smallest value first."""
    return tuple(sorted(counts.items(), key=lambda count: (-count[1], count[0])))


def _outlier_bin(
    number: int, rows: Tensor, acts: Tensor, norms: np.ndarray, position: Tensor, token_id: Tensor
) -> OutlierBin:
    total = np.zeros(acts.shape[1])
    direction = np.zeros(acts.shape[1])
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        x = acts[part].double().numpy()
        total += x.sum(axis=0)
        direction += (x / norms[part.numpy(), None]).sum(axis=0)
    known = ([number for number in ids[rows].tolist() if number >= 0] for ids in (position, token_id))  # -1: unknown
    positions, token_ids = (most_frequent(Counter(numbers))[:_MOST_FREQUENT] for numbers in known)
    return OutlierBin(
        number=number,
        x=_as_bytes(total),
        direction=_as_bytes(direction),
        positions=positions,
        token_ids=token_ids,
    )


def _sum_without(acts: Tensor, left_out: np.ndarray, norms: np.ndarray | None = None) -> bytes:
    """Returns the sum of the rows for which `left_out`, bool `[rows]`, is false; with `norms`, of their directions."""
    total = np.zeros(acts.shape[1])
    buffer = torch.empty(min(_ROWS_AT_ONCE, len(acts)), acts.shape[1], dtype=torch.float64)
    for start in range(0, len(acts), _ROWS_AT_ONCE):
        part = acts[start : start + _ROWS_AT_ONCE]
        x = buffer[: len(part)].copy_(part).numpy()
        rows = slice(start, start + len(part))
        x[left_out[rows]] = 0.0
        if norms is not None:
            x /= np.where(norms[rows] > 0, norms[rows], 1.0)[:, None]
        total += x.sum(axis=0)
    return _as_bytes(total)


def _together(bins: Sequence[OutlierBin]) -> OutlierBin:
    """Returns one bin of several units as one."""
    total = np.zeros(len(bins[0].x) // 8)
    direction = np.zeros_like(total)
    positions: Counter[int] = Counter()
    token_ids: Counter[int] = Counter()
    for outlier in bins:
        total += vector(outlier.x)
        direction += vector(outlier.direction)
        positions.update(dict(outlier.positions))
        token_ids.update(dict(outlier.token_ids))
    return OutlierBin(
        number=bins[0].number,
        x=_as_bytes(total),
        direction=_as_bytes(direction),
        positions=most_frequent(positions),
        token_ids=most_frequent(token_ids),
    )


def _check_bin(number: int, rows: int, norm: float, norm_squared: float, at: str) -> None:
    """Checks that as many norms between the edges of a bin can have these sums; no sum that is not finite can."""
    for power, total in ((1, norm), (2, norm_squared)):
        least, most = rows * lower_edge(number) ** power, rows * upper_edge(number) ** power
        if not least * (1 - _ROUNDING) <= total <= most * (1 + _ROUNDING):
            raise WrongField(f"`{at}` must have the norms of {rows} rows in bin {number}; got {shown(total)}")


def _check_sums(sums: NormHistogram | OutlierBin, d_in: int, rows: int, norm: float, at: str) -> None:
    """Checks that sums of rows have the right width, and no number larger than the norms of the rows allow."""
    for name, most in (("x", norm), ("direction", rows)):
        content: bytes = getattr(sums, name)
        if len(content) != 8 * d_in:
            raise WrongField(f"`{at}.{name}` must have {d_in} numbers; got {len(content)} bytes")
        if not (np.abs(vector(content)) <= most * (1 + _ROUNDING)).all():
            raise WrongField(f"`{at}.{name}` must be the sum of {rows} rows; got numbers that are too large")


def _as_bytes(x: np.ndarray) -> bytes:
    return x.astype("<f8").tobytes()


def _sums_as_text(sums: NormHistogram | OutlierBin) -> dict[str, str]:
    return {name: base64.b64encode(getattr(sums, name)).decode() for name in ("x", "direction")}
