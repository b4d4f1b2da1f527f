"""The held-out rows of a store: some to calibrate the frozen rule on, others to judge it by."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from distsae.batches import STREAMS, left_out_rows
from distsae.collective import Solo
from distsae.parallel import Mesh
from distsae.store import Store

__all__ = ["CALIBRATION_TOKENS", "JUDGING_TOKENS", "heldout_rows", "mesh_for_rows"]

CALIBRATION_TOKENS, JUDGING_TOKENS = 1 << 16, 1 << 14


def heldout_rows(
    store: Store,
    hook: str,
    max_norm: float | None = None,
    calibration_tokens: int = CALIBRATION_TOKENS,
    judging_tokens: int = JUDGING_TOKENS,
) -> tuple[Tensor, Tensor]:
    """Reads held-out rows, in the storage dtype, the same on all processes and every mesh.

    Their numbers are multiples of the number of streams, which every data axis divides. A store with too few held-out
    rows for that gives all of them, for both purposes.

    Args:
        store: store with held-out rows.
        hook: hook to read.
        max_norm: norm over which rows are left out, beside those of excluded tokens; None without a limit.
        calibration_tokens: largest number of rows to calibrate on.
        judging_tokens: largest number of rows to judge by.

    Returns:
        Rows to calibrate on, and other rows to judge by.
    """
    parts: list[Tensor] = []
    held = 0
    for chunk in store.chunks("heldout"):
        if held >= calibration_tokens + judging_tokens:
            break
        part = store.read_chunk(hook, chunk)
        left_out = left_out_rows(part.float(), store, max_norm)
        if left_out is not None:
            part = part[torch.ones(len(part), dtype=torch.bool).index_fill(0, left_out, value=False)]
        parts.append(part)
        held += len(part)
    rows = torch.cat(parts) if parts else torch.zeros(0, store.d_in(hook))
    if held >= STREAMS:
        rows = rows[: held // STREAMS * STREAMS]
    calibrating = min(max(held // 2, held - judging_tokens), calibration_tokens) // STREAMS * STREAMS
    if not calibrating:
        return rows, rows
    return rows[:calibrating], rows[calibrating : calibrating + judging_tokens]


def mesh_for_rows(mesh: Mesh, rows: int) -> Mesh:
    """Returns a mesh whose data axis divides the number of rows.

    That is the mesh itself, except for a handful of rows: then each data rank takes all rows, in a mesh of its own
    that consists of the feature ranks. Either way no row is left out.

    Args:
        mesh: the mesh, as this rank sees it.
        rows: number of rows.
    """
    return replace(mesh, data=Solo(), world=mesh.feature) if rows % mesh.data.size else mesh
