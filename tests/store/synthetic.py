"""A store without a language model: every activation is a known function of its context and position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
    units_to_seal,
    write_attempt,
)
from distsae.store.json_files import replace_json
from distsae.store.layout import DTYPES, StorePaths


def attributes(**changes) -> StoreAttributes:
    """Returns the attributes of a small store: 40 contexts of 9 tokens, 3 train units, 2 hooks."""
    values = {
        "model": "synthetic",
        "model_revision": "local",
        "model_digest": "m",
        "tokenizer_digest": "t",
        "corpus": "synthetic",
        "corpus_fingerprint": "c",
        "hooks": ("a.b", "c"),
        "d_in": {"a.b": 6, "c": 4},
        "dtype": "fp32",
        "context_length": 9,
        "prepend_bos": True,
        "excluded_positions": 1,
        "unit_rows": 100,
        "contexts": 40,
        "heldout_contexts": 4,
        "seed": 0,
        "chunk_rows": 32,
    }
    return StoreAttributes(**{**values, **changes})


def activations(hook: str, d_in: int, context_id: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Returns the synthetic model's activations, fp32 `[rows, d_in]`; they are exact in every storage dtype."""
    salt = sum(hook.encode()) % 7
    dims = torch.arange(d_in)
    return ((context_id[:, None] * 3 + position[:, None] * 5 + dims * (salt + 1)) % 61 - 30).float()


def unit_data(attrs: StoreAttributes, unit: int) -> UnitData:
    """Returns the rows of one unit."""
    context_ids = torch.from_numpy(unit_contexts(attrs)[unit])
    positions = torch.arange(attrs.excluded_positions, attrs.context_length)
    rows = len(context_ids) * len(positions)
    order = torch.from_numpy(row_order(attrs, unit, rows))
    context_id = context_ids.repeat_interleave(len(positions))[order]
    position = positions.repeat(len(context_ids))[order]
    tokens = (torch.arange(attrs.contexts)[:, None] * 7 + torch.arange(attrs.context_length)).int() % 50
    tokens += 50 * (int.from_bytes(attrs.corpus_fingerprint.removeprefix("c").encode()) % 1000)  # texts differ
    tokens[:, 0] = 0
    return UnitData(
        acts={
            hook: activations(hook, attrs.d_in[hook], context_id, position).to(DTYPES[attrs.dtype].torch)
            for hook in attrs.hooks
        },
        rows={
            "token_id": tokens[context_id, position].long(),
            "position": position,
            "document_id": context_id // 2,
            "context_id": context_id,
        },
        context_token_ids=tokens[context_ids],
    )


def plant_outliers(data: UnitData) -> None:
    """Gives the rows at position 1 of every fifth context norms far above those of all others (at most 74)."""
    outliers = (data.rows["position"] == 1) & (data.rows["context_id"] % 5 == 0)
    for acts in data.acts.values():
        acts[outliers] = acts[outliers].abs() * 64 + 8192


def write_unit(
    root: Path, attrs: StoreAttributes, unit: int, change: Callable[[UnitData], None] = lambda data: None
) -> bool:
    """Writes and commits one unit, after `change`; returns whether it was committed by this call."""
    split = unit_split(attrs, unit, len(unit_contexts(attrs)))
    data = unit_data(attrs, unit)
    change(data)
    return commit_unit(root, write_attempt(root, attrs, unit, split, data))


def write_store(
    root: Path, attrs: StoreAttributes | None = None, change: Callable[[UnitData], None] = lambda data: None
) -> Store:
    """Writes and seals a store; of a bounded one, the units that are sealed first."""
    attrs = attributes() if attrs is None else attrs
    begin_store(root, attrs)
    for unit in units_to_seal(attrs):
        write_unit(root, attrs, unit, change)
    seal_store(root, attrs)
    return Store.open(root)


def as_older(store: Store) -> Store:
    """Makes a store one that was written before there were histograms of norms."""
    for record in store.units:
        sums = {hook: replace(sums, norms=None) for hook, sums in record.sums.items()}
        replace_json(StorePaths(store.path).commit(record.index), replace(record, sums=sums).to_json())
    return Store.open(store.path)
