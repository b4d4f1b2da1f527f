"""The scale of a row: what it must be divided by to get the norm `sqrt(d_in)`."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["row_scales"]


def row_scales(rows: Tensor) -> Tensor:
    """Returns what each row must be divided by to get the norm `sqrt(d_in)`, `[..., 1]`; 1 for a row of zeros."""
    scales = torch.linalg.vector_norm(rows, dim=-1, keepdim=True) / rows.shape[-1] ** 0.5
    return torch.where(scales > 0, scales, 1.0)
