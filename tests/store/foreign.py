"""A store that another program wrote: with distsae's attributes and commit records, but other chunks and codecs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import zarr

from distsae.store import (
    Store,
    StoreAttributes,
    UnitRecord,
    begin_store,
    commit_unit,
    seal_store,
    unit_contexts,
    unit_split,
)
from distsae.store.attempt_files import record_files
from distsae.store.layout import CONTEXT_DTYPE, ROW_ARRAYS, StorePaths
from distsae.store.writer import write_attempt
from tests.store.synthetic import attributes, unit_data


def commit_foreign_unit(root: Path, attrs: StoreAttributes, unit: int, **options: Any) -> UnitRecord:
    """Writes a unit with zarr-python's `create_array(**options)` and commits it."""
    data = unit_data(attrs, unit)
    split = unit_split(attrs, unit, len(unit_contexts(attrs)))
    ours = write_attempt(root, attrs, unit, split, data)  # for its sums and its digest, which no codec changes
    attempt = f"unit-{unit:06d}/foreign"
    folder = StorePaths(root).attempt(attempt)
    group = zarr.open_group(folder, mode="w-", zarr_format=3)
    arrays = {name: data.rows[name].numpy().astype(dtype) for name, dtype in ROW_ARRAYS.items()}
    arrays["context_token_ids"] = data.context_token_ids.numpy().astype(CONTEXT_DTYPE)
    for hook, acts in data.acts.items():
        arrays[f"act/{hook}"] = (acts.view(torch.uint16) if attrs.dtype == "bf16" else acts).numpy()
    for name, array in arrays.items():
        more = {key: value(array) if callable(value) else value for key, value in options.items()}
        stored = group.create_array(name, shape=array.shape, dtype=array.dtype, **more)
        stored[...] = array
    record = UnitRecord(
        index=unit,
        split=split,
        attempt=attempt,
        contexts=ours.contexts,
        rows=ours.rows,
        fingerprint=ours.fingerprint,
        digest=ours.digest,
        sums=ours.sums,
        files=record_files(folder),
    )
    assert commit_unit(root, record)
    return record


def write_foreign_store(root: Path, attrs: StoreAttributes | None = None, **options: Any) -> Store:
    """Writes and seals a store of such units."""
    attrs = attributes() if attrs is None else attrs
    begin_store(root, attrs)
    for unit in range(len(unit_contexts(attrs))):
        commit_foreign_unit(root, attrs, unit, **options)
    seal_store(root, attrs)
    return Store.open(root)
