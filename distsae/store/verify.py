"""Verifies every byte of a store against its commit records, without stopping at the first fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distsae.errors import TornData
from distsae.store.attempt_files import arrays_with_crc, check_file, ends_with_crc, is_metadata, read_metadata
from distsae.store.bounded import reading
from distsae.store.layout import StorePaths
from distsae.store.location import Location
from distsae.store.records import UnitRecord
from distsae.store.store import Store

__all__ = ["verify_store"]


def verify_store(store: Store, on_file: Callable[[int], None] = lambda size: None) -> list[str]:
    """Reads every file of a sealed store and compares sizes, checksums and counts with the commit records.

    In a bounded store, these are the files of the units that are there now.

    Args:
        store: an open store; opening it has checked `dataset.json`, `attributes.json` and the commit records.
        on_file: called after each file with the size that its record promises.

    Returns:
        One line for each fault, naming the file; empty if the store is whole.
    """
    paths = StorePaths(store.path)
    faults = []
    for record in store.committed():
        found = _file_faults(paths.attempt(record.attempt), record, on_file) or _array_faults(store, record)
        if store.attributes.keep_units is not None and record.index < reading(store.path).released:
            continue  # released while its files were being read
        faults += found
        if record.rows != record.contexts * store.attributes.rows_per_context:
            faults.append(f"{paths.commit(record.index)} promises {record.rows} rows from {record.contexts} contexts")
    if store.attributes.keep_units is not None:
        return faults  # its number of units depends on how far the reader is
    for split, promised in (("train", store.rows), ("heldout", store.heldout_rows)):
        rows = sum(record.rows for record in store.units if record.split == split)
        if rows != promised:
            faults.append(f"{paths.dataset} promises {promised} {split} rows; the commit records hold {rows}")
    return faults


def _file_faults(folder: Location, record: UnitRecord, on_file: Callable[[int], None]) -> list[str]:
    """Returns the faults of the files that a commit record names."""
    faults: list[str] = []
    metadata: dict[str, dict[str, Any]] = {}
    arrays: dict[str, bool] = {}
    for name in sorted(record.files, key=lambda name: not is_metadata(name)):
        try:
            if is_metadata(name):
                metadata[name] = read_metadata(folder, name, record.files)
                arrays = arrays_with_crc(metadata)
            else:
                check_file(folder / name, record.files[name], ends_with_crc(name, arrays))
        except (TornData, OSError) as error:
            faults.append(str(error))
        on_file(record.files[name].size)
    return faults


def _array_faults(store: Store, record: UnitRecord) -> list[str]:
    """Returns the files that the arrays of a unit need and its record does not name; its files must be whole."""
    faults = []
    for name in store.arrays:
        try:
            array = store.array(record.index, name)
            for file in array.files():
                array.promised(file)
        except TornData as error:
            faults.append(str(error))
    return faults
