"""The scale of a row: what it must be divided by to get the norm `sqrt(d_in)`."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["row_scales", "row_scales_alone"]


def row_scales(rows: Tensor) -> Tensor:
    """Returns what each row must be divided by to get the norm `sqrt(d_in)`, `[..., 1]`; 1 for a row of zeros."""
    scales = torch.linalg.vector_norm(rows, dim=-1, keepdim=True) / rows.shape[-1] ** 0.5
    return torch.where(scales > 0, scales, 1.0)


def row_scales_alone(rows: Tensor) -> Tensor:
    """Returns what `row_scales` returns, to rounding, and the same bits for a row whatever rows are beside it.

    On a GPU, how torch sums a row depends on how many there are, if these are few or wide: the same row would get other
    bits on another mesh. Here squares are added in an order that depends on the width alone, and by additions of whole
    tensors, which give equal bits on every device. It takes as much memory as the rows.

    Args:
        rows: fp32 `[..., d_in]`.
    """
    width = rows.shape[-1]
    sums = rows.square()
    while width > 1:
        half = -(-width // 2)
        sums[..., : width - half] += sums[..., half:width]
        width = half
    scales = sums[..., :1].sqrt() * rows.shape[-1] ** -0.5  # torch divides by a number in two ways
    return torch.where(scales > 0, scales, 1.0)
