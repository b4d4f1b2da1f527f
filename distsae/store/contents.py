"""What readers get from a store beside the rows: the list of chunks, the origin of each row, statistics of all rows."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Chunk", "RowIds", "Statistics"]


@dataclass(frozen=True, slots=True, order=True)
class Chunk:
    """Chunk number `index` of the arrays of a unit; it holds `rows` consecutive rows."""

    unit: int
    index: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Statistics of train rows at one hook: of all of them, or of those with norms up to a limit.

    Args:
        rows: number of these rows.
        mean: mean row, fp32 `[d_in]`.
        mean_norm: mean of `||x||`.
        variance: mean of `||x - mean||^2`, summed over dimensions.
        mean_direction: mean of `x / ||x||`, to which rows of zeros add nothing, fp32 `[d_in]`; None in a store from
            before histograms of norms were kept.
        direction_variance: mean of `||x / ||x|| - mean_direction||^2`; None like `mean_direction`.
    """

    rows: int
    mean: Tensor
    mean_norm: float
    variance: float
    mean_direction: Tensor | None = None
    direction_variance: float | None = None


@dataclass(frozen=True, kw_only=True)
class RowIds:
    """The origin of each row of a unit, in stored order; every tensor is int64 `[rows]`.

    Args:
        token_id: token at the row's position.
        position: position in the context, BOS included.
        document_id: number of the document in the corpus.
        context_id: number of the context, in corpus order.
    """

    token_id: Tensor
    position: Tensor
    document_id: Tensor
    context_id: Tensor
