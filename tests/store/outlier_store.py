"""A store like that of a real language model: a few rows have a hundred times the usual norm, one token is left out."""

from __future__ import annotations

from pathlib import Path

import torch

from distsae.store import (
    Store,
    UnitData,
    begin_store,
    commit_unit,
    seal_store,
    unit_contexts,
    unit_split,
    write_attempt,
)
from tests.store import synthetic

__all__ = ["D_IN", "EXCLUDED_TOKEN", "HOOK", "outlier_store"]

HOOK = "a.b"
D_IN = 16
EXCLUDED_TOKEN = 13
"""One row in fifty is of this token, and zeros."""
_CONTEXTS = 400
_OUTLIER_EVERY = 9
"""One context in nine has an outlier, at position 1."""


def outlier_store(root: Path) -> Store:
    """Writes and seals a store of 3,200 sparse mixtures: one in 72 has 200 times the usual norm, one in 50 is zeros."""
    attrs = synthetic.attributes(
        hooks=(HOOK,),
        d_in={HOOK: D_IN},
        contexts=_CONTEXTS,
        heldout_contexts=64,
        unit_rows=800,
        chunk_rows=64,
        excluded_tokens=(EXCLUDED_TOKEN,),
    )
    begin_store(root, attrs)
    rows = _rows(_CONTEXTS * attrs.context_length)
    for unit in range(len(unit_contexts(attrs))):
        plain = synthetic.unit_data(attrs, unit)
        context, position = plain.rows["context_id"], plain.rows["position"]
        x = rows[context * attrs.context_length + position]
        outlier = (context % _OUTLIER_EVERY == 0) & (position == 1)
        x = torch.where(outlier[:, None], 200 * x, x)
        x[plain.rows["token_id"] == EXCLUDED_TOKEN] = 0
        data = UnitData({HOOK: x}, plain.rows, plain.context_token_ids)
        split = unit_split(attrs, unit, len(unit_contexts(attrs)))
        commit_unit(root, write_attempt(root, attrs, unit, split, data))
    seal_store(root, attrs)
    return Store.open(root)


def _rows(number: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    directions = torch.nn.functional.normalize(torch.randn(48, D_IN, generator=generator), dim=1)
    weights = torch.rand(number, 48, generator=generator) * 4 + 1
    on = torch.rand(number, 48, generator=generator) < 3 / (torch.arange(48) + 8)
    return (weights * on) @ directions + 0.3 * torch.randn(number, D_IN, generator=generator) + 0.4
