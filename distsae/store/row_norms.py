"""The norms of rows, and the fixed bins that stores count them in: 16 bins an octave, the same in every store.

Whoever compares a row with a limit must get the same answer as the store, to the last bit. So the norm of a row is
defined here once: its values as they are stored, in float64, summed in an order that depends on the row alone. A bin
holds the norms above its lower edge up to its upper edge, both computed exactly. So a norm is at most an edge if and
only if it lies in a bin below that edge.
"""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "LAST_BIN",
    "ZERO_BIN",
    "bin_numbers",
    "first_bin_over",
    "lower_edge",
    "nearest_edge",
    "row_norms",
    "upper_edge",
]

ZERO_BIN = -32768
"""Number of the bin of rows that are zero; every other norm lies in a bin with a larger number."""

_BINS_PER_OCTAVE = 16

LAST_BIN = 400 * _BINS_PER_OCTAVE - 1
"""Number of the last bin that a record may have: rows of fp32 are far below, and sums of squared norms are finite."""

_EDGES = np.array([float(Decimal(2) ** (Decimal(i) / _BINS_PER_OCTAVE)) for i in range(_BINS_PER_OCTAVE)])
_ROWS_AT_ONCE = 256


def row_norms(rows: Tensor) -> Tensor:
    """Returns the norm of each row, float64 `[rows]`: the one definition that stores and training share.

    A row is kept under a limit if and only if this norm is at most the limit. The norm of a row does not depend on
    where the row lies in `rows`, on the number of threads, or on whether the stored values have been converted to a
    wider dtype before. It does depend on any arithmetic before: rows must not be centred, scaled or rounded.

    Args:
        rows: rows on the CPU, `[rows, d_in]`, in the storage dtype, or converted from it to fp32 or fp64.
    """
    norms = np.empty(len(rows))
    buffer = torch.empty(min(_ROWS_AT_ONCE, len(rows)), rows.shape[1], dtype=torch.float64)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        x = buffer[: len(part)].copy_(part).numpy()
        # `sum` adds the values of a row in the same order wherever it lies; `einsum` does not if rows are wide, and
        # torch does not for every number of threads.
        norms[start : start + len(part)] = np.sqrt(np.square(x, out=x).sum(axis=1))
    return torch.from_numpy(norms)


def bin_numbers(norms: np.ndarray) -> np.ndarray:
    """Returns the number of each norm's bin, int64: bin `b` holds the norms in `(2^(b/16), 2^((b+1)/16)]`.

    Args:
        norms: finite norms, fp64 `[rows]`.
    """
    mantissa, exponent = np.frexp(norms)  # norm = mantissa * 2^exponent, with a mantissa in [0.5, 1)
    inside = np.searchsorted(_EDGES, 2 * mantissa, side="left") - 1
    numbers = _BINS_PER_OCTAVE * (exponent.astype(np.int64) - 1) + inside
    return np.where(norms == 0, ZERO_BIN, numbers)


def lower_edge(number: int) -> float:
    """Returns the lower edge of a bin, which the bin does not hold; of the bin of zeros, 0."""
    if number == ZERO_BIN:
        return 0.0
    return math.ldexp(float(_EDGES[number % _BINS_PER_OCTAVE]), number // _BINS_PER_OCTAVE)


def upper_edge(number: int) -> float:
    """Returns the upper edge of a bin, the largest norm that it holds; of the bin of zeros, 0."""
    return 0.0 if number == ZERO_BIN else lower_edge(number + 1)


def first_bin_over(limit: float) -> int:
    """Returns the number of the lowest bin whose norms exceed `limit`, if `limit` is the edge of a bin.

    Any other limit counts as the edge that is nearest to it in log terms.

    Args:
        limit: a norm, finite and above 0.
    """
    (number,) = (int(n) for n in bin_numbers(np.array([limit])))
    # `limit` is above the middle of its bin, in log terms, if its square is above the product of the edges.
    return number + 1 if limit * limit > lower_edge(number) * upper_edge(number) else number


def nearest_edge(limit: float) -> float:
    """Returns the edge of a bin that is nearest to `limit` in log terms; `limit` must be finite and above 0."""
    return lower_edge(first_bin_over(limit))
