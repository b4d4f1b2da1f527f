"""The activation store: where producer and consumer meet."""

from __future__ import annotations

from distsae.store.attributes import StoreAttributes
from distsae.store.claims import Claims
from distsae.store.collect import Collected, collect_orphans
from distsae.store.commit import begin_store, commit_unit, committed_units, read_attributes, seal_store
from distsae.store.layout import StorePaths
from distsae.store.merge import merge_stores
from distsae.store.plan import contexts_per_unit, row_order, unit_contexts, unit_split
from distsae.store.reader import Chunk, RowIds, Statistics, Store
from distsae.store.records import FileRecord, HookSums, UnitRecord
from distsae.store.verify import verify_store
from distsae.store.writer import UnitData, write_attempt

__all__ = [
    "Chunk",
    "Claims",
    "Collected",
    "FileRecord",
    "HookSums",
    "RowIds",
    "Statistics",
    "Store",
    "StoreAttributes",
    "StorePaths",
    "UnitData",
    "UnitRecord",
    "begin_store",
    "collect_orphans",
    "commit_unit",
    "committed_units",
    "contexts_per_unit",
    "merge_stores",
    "read_attributes",
    "row_order",
    "seal_store",
    "unit_contexts",
    "unit_split",
    "verify_store",
    "write_attempt",
]
