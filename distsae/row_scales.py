"""Norms of rows, and the scale that brings each row to the norm `sqrt(d_in)`."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["row_scales", "rows_over"]

_NEAR = 1 - 2**-10
"""Norms in fp32 from this share of a limit on are computed again in fp64."""


def row_scales(rows: Tensor) -> Tensor:
    """Returns what each row must be divided by to get the norm `sqrt(d_in)`, `[..., 1]`; 1 for a row of zeros."""
    scales = torch.linalg.vector_norm(rows, dim=-1, keepdim=True) / rows.shape[-1] ** 0.5
    return torch.where(scales > 0, scales, 1.0)


def rows_over(rows: Tensor, max_norm: float) -> Tensor:
    """Returns the indices of the rows whose norm exceeds a limit, ascending, int64.

    Norms near the limit are computed in fp64, so that all who ask give the same answer. A row that is not finite is not
    among them: it must be found, not left out.

    Args:
        rows: raw activations, fp32 `[rows, d_in]`.
        max_norm: largest norm of a row that is kept.
    """
    near = (torch.linalg.vector_norm(rows, dim=1) > _NEAR * max_norm).nonzero().squeeze(1)
    norms = rows[near].double().square().sum(1).sqrt()
    over: Tensor = near[(norms > max_norm) & norms.isfinite()]
    return over
