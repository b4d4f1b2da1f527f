"""Held-out rows at the end of a run: some to calibrate the frozen rule on, others to judge it by."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from distsae.batches import STREAMS
from distsae.collective import Solo
from distsae.parallel import Mesh
from distsae.store import Store

__all__ = ["CALIBRATION_TOKENS", "JUDGING_TOKENS", "heldout_rows", "mesh_for"]

CALIBRATION_TOKENS, JUDGING_TOKENS = 1 << 16, 1 << 14


def heldout_rows(
    store: Store, hook: str, calibration_tokens: int = CALIBRATION_TOKENS, judging_tokens: int = JUDGING_TOKENS
) -> tuple[Tensor, Tensor]:
    """Returns held-out rows to calibrate on and others to measure on, in the storage dtype, equal on all processes.

    Multiples of the streams, which every data axis divides: the same rows on every mesh. A store with hardly any
    held-out rows gives all of them for both.
    """
    rows: list[Tensor] = []
    held = 0
    for chunk in store.chunks("heldout"):
        if held >= calibration_tokens + judging_tokens:
            break
        rows.append(store.read_chunk(hook, chunk))
        held += chunk.rows
    everything = torch.cat(rows) if rows else torch.zeros(0, store.d_in(hook))
    if held >= STREAMS:
        everything = everything[: held // STREAMS * STREAMS]
    seen = min(max(held // 2, held - judging_tokens), calibration_tokens) // STREAMS * STREAMS
    if not seen:
        return everything, everything
    return everything[:seen], everything[seen : seen + judging_tokens]


def mesh_for(mesh: Mesh, rows: int) -> Mesh:
    """Returns the mesh that shares `rows` rows, so that none is left out and the result is that of one process.

    Where the data axis does not divide them, which happens to a few rows only, each data rank takes them all: then
    the ranks that share the features make up its whole world.
    """
    return replace(mesh, data=Solo(), world=mesh.feature) if rows % mesh.data.size else mesh
