"""The upper bounds of a chunk of scores: a matrix, or no more than the places of those that reach a lower bound.

Most questions of a selector need the matrix, which the product of `prefilter.py` makes. Where kernels can compare the
product before it is ever stored (`Kernels.places_above`), one question does not: which scores may reach this bound. But
each such question takes a product of its own, so it is asked without the matrix only where it was the only one about
the chunk before. Both ways let through every score that reaches the bound, and the selection is the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.allocation.scores import EMPTY
from distsae.allocation.segments import true_indices_within
from distsae.kernels.operations import Kernels

__all__ = ["MatrixRoom", "UpperBounds", "plain_places_above", "ruled_out_to"]

_LOWER = 1 - 2**-7
"""A score of at least `bound`, rounded to bf16, is above `bound` times this, rounded to bf16."""


class MatrixRoom:
    """Memory for one matrix of bounds after the other, allocated when the first is needed.

    Args:
        features: most features of a matrix.
        columns: the tokens as `prefilter_tokens` returns them.
    """

    def __init__(self, features: int, columns: Tensor) -> None:
        self._features = features
        self._columns = columns
        self._buffer: Tensor | None = None

    def matrix(self, features: int) -> Tensor:
        """Returns memory for `features` rows, which overwrites the matrix before."""
        if self._buffer is None:
            self._buffer = self._columns.new_empty(self._features, self._columns.shape[0])
        return self._buffer[:features]


class UpperBounds:
    """The upper bounds of one chunk.

    Args:
        kernels: kernels of the products.
        rows: the prefilter's copy of the chunk's encoder rows, bf16 `[features, width]`.
        columns: the tokens as `prefilter_tokens` returns them, bf16 `[tokens, width]`.
        room: memory for matrices of bounds.
        asked_once: whether a question about places is expected to be the only one.
    """

    def __init__(self, kernels: Kernels, rows: Tensor, columns: Tensor, room: MatrixRoom, *, asked_once: bool) -> None:
        self._kernels = kernels
        self._rows = rows
        self._columns = columns
        self._room = room
        self._asked_once = asked_once
        self._matrix: Tensor | None = None
        self._questions = 0
        self._of_places = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Number of features and of tokens."""
        return self._rows.shape[0], self._columns.shape[0]

    @property
    def device(self) -> torch.device:
        """Device of the bounds."""
        return self._rows.device

    @property
    def was_asked_once(self) -> bool:
        """Whether there was one question, and it was about places."""
        return self._questions == self._of_places == 1

    def matrix(self) -> Tensor:
        """Returns the bounds, bf16 `[features, tokens]`, contiguous; computed when they are first asked for."""
        self._questions += 1
        if self._matrix is None:
            self._matrix = self._room.matrix(self.shape[0])
            self._kernels.upper_scores(self._rows, self._columns, self._matrix)
        return self._matrix

    def places_above(self, cutoff: Tensor, bound: Tensor, places: int) -> Tensor:
        """Returns places that hold every positive score of at least a bound.

        Args:
            cutoff: the bound as `ruled_out_to` returns it, computed once for all chunks.
            bound: lower bound of the scores, not negative, fp32 `[1, 1]` or `[features, 1]`.
            places: number of places to return.

        Returns:
            Flat indices `feature * tokens + token`, int64 `[places]`, ascending; `EMPTY` in places that were not taken.
        """
        above = self._kernels.places_above
        self._of_places += 1
        # Bounds of each token are in `cutoff` alone: the kernel compares with one number, or one a feature.
        same = cutoff.shape == bound.shape
        if above is not None and same and self._asked_once and not self._questions:
            self._questions += 1
            return above(self._rows, self._columns, bound, places)
        return true_indices_within(self.matrix() > cutoff, places, EMPTY)


def ruled_out_to(bound: Tensor) -> Tensor:
    """Returns the largest upper bound that rules out every score of at least `bound`, in bf16.

    Args:
        bound: bounds, not negative.
    """
    return (bound * _LOWER).bfloat16()


def plain_places_above(rows: Tensor, columns: Tensor, bound: Tensor, places: int) -> Tensor:
    """Computes what `Kernels.places_above` does, with a matrix of upper bounds in fp32."""
    upper = rows.float() @ columns.float().t()
    return true_indices_within((upper >= bound) & (upper > 0), places, EMPTY)
