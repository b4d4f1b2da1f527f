"""Rows of a unit in blocks, as an SAE encodes them: without excluded tokens and without rows of outlier norm."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from distsae.store import Chunk, Store, UnitContexts, row_norms

__all__ = ["row_blocks"]

_BLOCK_ROWS = 4096
"""Rows that are encoded at once. The last bit of a score may depend on it, so it is no option."""


def row_blocks(
    store: Store, hook: str, unit: int, contexts: UnitContexts, chosen: Tensor, max_norm: float | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields activations of chosen rows of a unit, `[rows, d_in]`, and their numbers in it, in stored order.

    Rows of tokens that the store excludes, and rows over `max_norm`, are left out, as in an evaluation.

    Args:
        store: the store.
        hook: hook whose activations are read.
        unit: index of the unit.
        contexts: the contexts of the unit.
        chosen: whether each row of the unit is chosen, bool `[rows]`.
        max_norm: largest norm of a row that the SAE is for; None for all.
    """
    excluded = torch.tensor(store.attributes.excluded_tokens, dtype=torch.int64)
    wanted = chosen & ~torch.isin(contexts.ids.token_id, excluded)
    x_parts: list[Tensor] = []
    index_parts: list[Tensor] = []
    waiting = 0
    for chunk in _chunks(store, unit):
        start = chunk.index * store.attributes.chunk_rows
        rows = wanted[start : start + chunk.rows].nonzero().squeeze(1)
        x = store.read_chunk(hook, chunk)[rows]
        if max_norm is not None:
            low = row_norms(x) <= max_norm
            x, rows = x[low], rows[low]
        x_parts.append(x)
        index_parts.append(rows + start)
        waiting += len(x)
        while waiting >= _BLOCK_ROWS:
            x, index = torch.cat(x_parts), torch.cat(index_parts)
            yield x[:_BLOCK_ROWS], index[:_BLOCK_ROWS]
            x_parts, index_parts = [x[_BLOCK_ROWS:]], [index[_BLOCK_ROWS:]]
            waiting -= _BLOCK_ROWS
    if waiting:
        yield torch.cat(x_parts), torch.cat(index_parts)


def _chunks(store: Store, unit: int) -> list[Chunk]:
    return [chunk for split in ("train", "heldout") for chunk in store.chunks(split) if chunk.unit == unit]
