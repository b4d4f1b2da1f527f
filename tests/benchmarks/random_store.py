"""A store of random activations, for benchmarks that need one."""

from __future__ import annotations

from pathlib import Path

import torch

from distsae.store import (
    Store,
    StoreAttributes,
    UnitData,
    begin_store,
    commit_unit,
    row_order,
    seal_store,
    unit_contexts,
    unit_split,
    write_attempt,
)

__all__ = ["synthetic_store"]


def synthetic_store(root: Path, rows: int, d_in: int, unit_rows: int = 200_000, heldout_rows: int = 1) -> Store:
    """Writes random fp16 activations in the order and the files of a produced store.

    Args:
        root: the store.
        rows: to write, rounded down to whole contexts of 127.
        d_in: width of the activations.
        unit_rows: rows of a unit, at most.
        heldout_rows: how many of them are held out, rounded up to whole contexts.
    """
    contexts = rows // 127
    attributes = StoreAttributes(
        model="random",
        model_revision="local",
        model_digest="random",
        tokenizer_digest="random",
        corpus="random",
        corpus_fingerprint="random",
        hooks=("random",),
        d_in={"random": d_in},
        dtype="fp16",
        context_length=128,
        prepend_bos=True,
        excluded_positions=1,
        unit_rows=unit_rows,
        contexts=contexts,
        heldout_contexts=-(-heldout_rows // 127),
        seed=0,
    )
    begin_store(root, attributes)
    units = unit_contexts(attributes)
    for unit, ids in enumerate(units):
        size = len(ids) * 127
        numbers = torch.from_numpy(row_order(attributes, unit, size))
        data = UnitData(
            acts={"random": torch.randn(size, d_in, generator=torch.Generator().manual_seed(unit)).half()},
            rows=dict.fromkeys(("token_id", "position", "document_id", "context_id"), numbers),
            context_token_ids=torch.zeros(len(ids), 128, dtype=torch.int32),
        )
        assert commit_unit(root, write_attempt(root, attributes, unit, unit_split(attributes, unit, len(units)), data))
    seal_store(root, attributes)
    return Store.open(root)
