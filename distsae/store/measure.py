"""Adds histograms of norms to the commit records of a store that was produced before they were kept.

The rows of a unit are read once, and its record is replaced in one step; nothing else in the store changes. The record
is then the one that producing the unit today would give. A measurement that was interrupted goes on with the units that
have no histograms yet.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from distsae.errors import CannotContinue, WrongInput
from distsae.store.json_files import replace_json
from distsae.store.layout import DTYPES, StorePaths
from distsae.store.norm_histogram import NormHistogram
from distsae.store.records import HookSums, UnitRecord
from distsae.store.store import Store

__all__ = ["measure_store", "unmeasured"]


def unmeasured(store: Store) -> list[UnitRecord]:
    """Returns the commit records that lack a histogram of norms at one hook or more, held-out units included.

    Raises:
        WrongInput: the store is bounded.
    """
    if store.attributes.keep_units is not None:
        raise WrongInput(
            f"`store` (={store.path}) must keep all units; got a bounded store (keep_units "
            f"{store.attributes.keep_units}), whose statistics are of units that are gone; produce a new one, which "
            "has histograms of norms from the start"
        )
    return [record for record in store.units if any(sums.norms is None for sums in record.sums.values())]


def measure_store(store: Store, on_unit: Callable[[int], None] = lambda rows: None) -> Store:
    """Adds the histograms of norms that are missing in a store, and returns the store opened again.

    One unit's rows at one hook are in memory at a time.

    Args:
        store: an open store.
        on_unit: called after each unit with the number of its rows.

    Raises:
        WrongInput: the store is bounded.
        TornData: a file is missing or damaged; the text names it.
        CannotContinue: a row is not finite.
    """
    for record in unmeasured(store):
        sums = {hook: _with_norms(store, record, hook) for hook in record.sums}
        path = StorePaths(store.path).commit(record.index)
        committed = path.stat().st_mtime
        replace_json(path, replace(record, sums=sums).to_json())
        if isinstance(path, Path):  # the time of the commit, from which `store status` computes rows per second
            with contextlib.suppress(OSError):  # a file system whose times cannot be set
                os.utime(path, (committed, committed))
        on_unit(record.rows)
    return Store.open(store.path)


def _with_norms(store: Store, record: UnitRecord, hook: str) -> HookSums:
    sums = record.sums[hook]
    if sums.norms is not None:
        return sums
    acts, ids = _rows_of(store, record, hook), store.read_ids(record.index)
    norms = NormHistogram.of(acts, ids.position, ids.token_id)
    if norms is None:
        raise CannotContinue(
            f"unit {record.index} of {store.path} must hold finite rows; got infinities or NaNs at {hook}; produce "
            "the store again"
        )
    return replace(sums, norms=norms)


def _rows_of(store: Store, record: UnitRecord, hook: str) -> Tensor:
    """Returns all rows of a unit at `hook`, `[rows, d_in]`, in the storage dtype."""
    acts = torch.empty(record.rows, store.d_in(hook), dtype=DTYPES[store.attributes.dtype].torch)
    start = 0
    for chunk in store.chunks(record.split):
        if chunk.unit == record.index:
            acts[start : start + chunk.rows] = store.read_chunk(hook, chunk)
            start += chunk.rows
    return acts
