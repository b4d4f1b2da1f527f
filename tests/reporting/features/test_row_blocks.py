"""Chosen rows of a unit in blocks: each once, in stored order, without those that no SAE is for."""

import pytest
import torch

from distsae.reporting.features import row_blocks as module
from distsae.reporting.features.row_blocks import row_blocks
from distsae.store import Store, UnitContexts
from tests.reporting.features.dense import HOOK, whole_store


@pytest.mark.parametrize("block", [1, 7, 4096])
@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("excluded_tokens", [(), (1, 3)])
def test_against_the_whole_unit(tmp_path, monkeypatch, block, bounded, excluded_tokens):
    monkeypatch.setattr(module, "_BLOCK_ROWS", block)
    store: Store = whole_store(tmp_path / "store", excluded_tokens=excluded_tokens)
    for unit in (record.index for record in store.units):
        contexts = UnitContexts.read(store, unit)
        chosen = torch.rand(len(contexts.context), generator=torch.Generator().manual_seed(unit)) < 0.6
        chunks = [chunk for split in ("train", "heldout") for chunk in store.chunks(split) if chunk.unit == unit]
        x = torch.cat([store.read_chunk(HOOK, chunk) for chunk in chunks])
        norms = x.float().norm(dim=1)
        max_norm = float(norms.median()) + 1e-3 if bounded else None
        kept = chosen & ~torch.isin(contexts.ids.token_id, torch.tensor(excluded_tokens, dtype=torch.int64))
        if max_norm is not None:
            kept &= norms <= max_norm
        found = list(row_blocks(store, HOOK, unit, contexts, chosen, max_norm))
        assert all(len(rows) == len(index) == block for rows, index in found[:-1])
        assert torch.equal(torch.cat([index for _, index in found]), kept.nonzero().squeeze(1))
        assert torch.equal(torch.cat([rows for rows, _ in found]), x[kept])
        assert 0 < kept.sum() < len(kept)


def test_no_row_is_no_block(tmp_path):
    store = whole_store(tmp_path / "store")
    contexts = UnitContexts.read(store, 0)
    assert list(row_blocks(store, HOOK, 0, contexts, torch.zeros(len(contexts.context), dtype=torch.bool), None)) == []
