"""What a store has to tell: where its rows are, where they come from, what they are like as a whole."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Chunk", "RowIds", "Statistics"]


@dataclass(frozen=True, slots=True, order=True)
class Chunk:
    """`rows` consecutive rows of a unit: chunk number `index` of its arrays."""

    unit: int
    index: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of the train rows at one hook, sealed with the store.

    Args:
        rows: number of train rows.
        mean: fp32 `[d_in]`.
        mean_norm: mean of `||x||`.
        variance: mean of `||x - mean||^2`, summed over dimensions.
    """

    rows: int
    mean: Tensor
    mean_norm: float
    variance: float


@dataclass(frozen=True, kw_only=True)
class RowIds:
    """Where the rows of a unit come from, each int64 `[rows]`, in stored order.

    Args:
        token_id: token at the position.
        position: in the context, counted with BOS.
        document_id: number of the document in the corpus.
        context_id: number of the context, in corpus order.
    """

    token_id: Tensor
    position: Tensor
    document_id: Tensor
    context_id: Tensor
