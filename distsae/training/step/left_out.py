"""The rows of a batch that are left out: no matches, no loss, no gradient, no share of the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.parallel import Mesh

__all__ = ["NONE_LEFT_OUT", "LeftOut", "left_out_of"]


@dataclass(frozen=True)
class LeftOut:
    """Rows of a batch or micro-batch that are left out.

    Args:
        rows: indices of those of this data rank, ascending, int64; None if there are none on this rank.
        of_all: number of those of all data ranks.
    """

    rows: Tensor | None = None
    of_all: int = 0

    def zeroed(self, vectors: Tensor) -> Tensor:
        """Sets the vectors of these rows to zero, in place, and returns all vectors, `[tokens, ...]`."""
        if self.rows is not None:
            vectors[self.rows] = 0
        return vectors


NONE_LEFT_OUT = LeftOut()
"""No row is left out."""


def left_out_of(parts: Sequence[Tensor | None], mesh: Mesh) -> list[LeftOut]:
    """Returns the rows that are left out of each micro-batch. Collective: one sum of a few numbers.

    Args:
        parts: indices of such rows of this data rank in each micro-batch; None, on all ranks alike, if rows are never
            left out.
        mesh: the mesh, as this rank sees it.
    """
    found = [part for part in parts if part is not None]
    if not found:
        return [NONE_LEFT_OUT] * len(parts)
    own = [part.numel() for part in found]
    of_all = mesh.data.sum(torch.tensor(own)).tolist()
    return [LeftOut(part if number else None, total) for part, number, total in zip(found, own, of_all, strict=True)]
