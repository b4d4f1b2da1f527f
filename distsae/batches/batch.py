"""A batch as it is read: the rows, and which of them are left out of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Batch"]


@dataclass(frozen=True, eq=False)
class Batch:
    """This data rank's rows of a global batch.

    Rows that are left out stay in their place, so that a batch has the same shape on every mesh; they can have no match
    and count in no loss.

    Args:
        x: normalised activations, fp32 `[tokens, d_in]`.
        left_out: indices of the rows that are left out, ascending, int64; None if rows are never left out, on all ranks
            alike.
    """

    x: Tensor
    left_out: Tensor | None = None

    @staticmethod
    def joined(batches: Sequence[Batch]) -> Batch:
        """Returns one batch with the rows of several, one after the other; at least one."""
        rows = [len(batch.x) for batch in batches]
        left_out = [
            batch.left_out + sum(rows[:number]) for number, batch in enumerate(batches) if batch.left_out is not None
        ]
        return Batch(torch.cat([batch.x for batch in batches]), torch.cat(left_out) if left_out else None)

    def to(self, device: torch.device) -> Batch:
        """Returns the batch on a device."""
        return Batch(self.x.to(device), None if self.left_out is None else self.left_out.to(device))
