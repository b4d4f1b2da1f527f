"""Which rows are left out: those with a norm over a limit, the same ones for all who ask, and those of excluded tokens.

Rows of excluded tokens are stored as zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.store import Store, row_norms

__all__ = ["left_out_rows", "rows_over"]

_NEAR = 1 - 2**-10
"""Norms in fp32 from this share of a limit on are computed again, as the store computes them."""


def rows_over(rows: Tensor, max_norm: float, stored: Tensor | None = None) -> Tensor:
    """Returns the indices of the rows whose norm exceeds a limit, ascending, int64, on the CPU.

    A row that is not finite is not among them: it must be found, not left out.

    Args:
        rows: raw activations, fp32 `[rows, d_in]`.
        max_norm: largest norm of a row that is kept.
        stored: the same rows on the CPU, as they are stored; not needed if `rows` are on the CPU.
    """
    near = (torch.linalg.vector_norm(rows, dim=1) > _NEAR * max_norm).nonzero().squeeze(1).cpu()
    norms = row_norms((rows if stored is None else stored)[near])
    over: Tensor = near[(norms > max_norm) & norms.isfinite()]
    return over


def left_out_rows(rows: Tensor, store: Store, max_norm: float | None, stored: Tensor | None = None) -> Tensor | None:
    """Returns the indices of the rows that training and measurement leave out, ascending, int64, on the CPU.

    None if no row of the store can be left out, because there is neither a limit nor an excluded token.

    Args:
        rows: raw activations, fp32 `[rows, d_in]`.
        store: store that the rows were read from.
        max_norm: largest norm of a row that is kept; None if there is no limit.
        stored: the same rows on the CPU, as they are stored; not needed if `rows` are on the CPU.
    """
    over = None if max_norm is None else rows_over(rows, max_norm, stored)
    if not store.attributes.excluded_tokens:
        return over
    excluded = (rows == 0).all(1).nonzero().squeeze(1).cpu()
    return excluded if over is None else torch.cat([over, excluded]).sort().values
