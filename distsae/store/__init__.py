"""The activation store: producers write it, training and evaluation read it."""

from __future__ import annotations

from distsae.store.attributes import StoreAttributes
from distsae.store.bounded import (
    Reading,
    begin_reading,
    reading,
    refuse_other_reader,
    release,
    remove_released,
    seal_early,
    units_done,
    units_wanted,
)
from distsae.store.claims import Claims
from distsae.store.collect import Collected, collect_orphans
from distsae.store.commit import begin_store, commit_unit, committed_units, read_attributes, seal_store
from distsae.store.contents import Chunk, RowIds, Statistics
from distsae.store.layout import StorePaths
from distsae.store.location import Location, location
from distsae.store.measure import measure_store, unmeasured
from distsae.store.merge import merge_stores
from distsae.store.norm_histogram import NormHistogram
from distsae.store.norm_summary import NormSummary
from distsae.store.opening import units_of_merge
from distsae.store.outliers_in_words import outliers_in_words
from distsae.store.own_store import OwnStoreSettings, write_own_store
from distsae.store.passages import Passages
from distsae.store.records import FileChecksum, HookSums, Split, UnitRecord
from distsae.store.row_contexts import RowContext, UnitContexts
from distsae.store.row_norms import row_norms
from distsae.store.row_source import ArrayRows, JoinedRows, RowSource
from distsae.store.store import Store
from distsae.store.unit_plan import (
    contexts_before,
    contexts_per_unit,
    row_order,
    unit_contexts,
    unit_count,
    unit_sizes,
    unit_split,
    units_to_seal,
    windows,
)
from distsae.store.verify import verify_store
from distsae.store.writer import UnitData, write_attempt

__all__ = [
    "ArrayRows",
    "Chunk",
    "Claims",
    "Collected",
    "FileChecksum",
    "HookSums",
    "JoinedRows",
    "Location",
    "NormHistogram",
    "NormSummary",
    "OwnStoreSettings",
    "Passages",
    "Reading",
    "RowContext",
    "RowIds",
    "RowSource",
    "Split",
    "Statistics",
    "Store",
    "StoreAttributes",
    "StorePaths",
    "UnitContexts",
    "UnitData",
    "UnitRecord",
    "begin_reading",
    "begin_store",
    "collect_orphans",
    "commit_unit",
    "committed_units",
    "contexts_before",
    "contexts_per_unit",
    "location",
    "measure_store",
    "merge_stores",
    "outliers_in_words",
    "read_attributes",
    "reading",
    "refuse_other_reader",
    "release",
    "remove_released",
    "row_norms",
    "row_order",
    "seal_early",
    "seal_store",
    "unit_contexts",
    "unit_count",
    "unit_sizes",
    "unit_split",
    "units_done",
    "units_of_merge",
    "units_to_seal",
    "units_wanted",
    "unmeasured",
    "verify_store",
    "windows",
    "write_attempt",
    "write_own_store",
]
