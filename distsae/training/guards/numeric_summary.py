"""Summary of a tensor that may hold numbers that are not finite: how many, in which rows, and the range of the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

__all__ = ["MOST_ROWS", "NumericSummary", "summarise"]

MOST_ROWS = 1024
"""Largest number of broken rows that a summary lists: the first ones."""

_ROWS_IN_WORDS = 16
"""Largest number of rows that a sentence names."""


@dataclass(frozen=True)
class NumericSummary:
    """What is known of the numbers in a tensor; JSON-able with `dataclasses.asdict`.

    Args:
        shape: shape of the tensor.
        not_finite: number of entries that are not finite.
        rows: indices of the first rows that have such an entry.
        min: smallest finite entry; None if there is none.
        max: largest finite entry; None if there is none.
        norm: L2 norm of the finite entries; None if there are none, or if the norm itself overflows.
    """

    shape: tuple[int, ...]
    not_finite: int
    rows: tuple[int, ...]
    min: float | None
    max: float | None
    norm: float | None

    def not_finite_in_words(self) -> str:
        """Returns the number of entries that are not finite and their rows, such as "2 numbers in rows 1, 4"."""
        shown = ", ".join(map(str, self.rows[:_ROWS_IN_WORDS]))
        if len(self.rows) > _ROWS_IN_WORDS:
            shown += " and more"
        return f"{self.not_finite} numbers in {'rows' if len(self.rows) > 1 else 'row'} {shown}"


def summarise(tensor: Tensor, most_rows: int = MOST_ROWS, block_size: int = 1 << 24) -> NumericSummary:
    """Returns the summary of a tensor; rows are the entries of its first dim.

    Args:
        tensor: floating-point tensor of any shape; a scalar counts as one row.
        most_rows: largest number of broken rows to list.
        block_size: numbers that are looked at together. They are copied to fp64, and a copy of all weights might not
            fit beside the weights.
    """
    matrix = tensor.reshape(tensor.shape[0], -1) if tensor.dim() else tensor.reshape(1, 1)
    block_rows = max(block_size // max(matrix.shape[1], 1), 1)
    not_finite = 0
    rows: list[int] = []
    smallest = math.inf
    largest = -math.inf
    squares = 0.0
    for first in range(0, matrix.shape[0], block_rows):
        block = matrix[first : first + block_rows].double()
        is_finite = block.isfinite()
        broken = int((~is_finite).sum())
        if broken:
            broken_rows = (~is_finite).any(1).nonzero().flatten()
            rows += [first + row for row in broken_rows[: most_rows - len(rows)].tolist()]
        if block.numel() > broken:
            finite = block[is_finite]
            smallest = min(smallest, float(finite.min()))
            largest = max(largest, float(finite.max()))
            squares += float(finite.square().sum())
        not_finite += broken
    any_finite = largest >= smallest
    return NumericSummary(
        shape=tuple(tensor.shape),
        not_finite=not_finite,
        rows=tuple(rows),
        min=smallest if any_finite else None,
        max=largest if any_finite else None,
        norm=math.sqrt(squares) if any_finite and math.isfinite(squares) else None,
    )
