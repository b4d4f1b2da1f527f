"""Which rows have a norm over a limit: the same ones for all who ask, the store among them."""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.store import row_norms

__all__ = ["rows_over"]

_NEAR = 1 - 2**-10
"""Norms in fp32 from this share of a limit on are computed again, as the store computes them."""


def rows_over(rows: Tensor, max_norm: float) -> Tensor:
    """Returns the indices of the rows whose norm exceeds a limit, ascending, int64.

    A row that is not finite is not among them: it must be found, not left out.

    Args:
        rows: raw activations on the CPU, fp32 `[rows, d_in]`.
        max_norm: largest norm of a row that is kept.
    """
    near = (torch.linalg.vector_norm(rows, dim=1) > _NEAR * max_norm).nonzero().squeeze(1)
    norms = row_norms(rows[near])
    over: Tensor = near[(norms > max_norm) & norms.isfinite()]
    return over
