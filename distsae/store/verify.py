"""Every byte of a store against its commit records, without stopping at the first fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from distsae.errors import TornData
from distsae.store.durable import crc32c
from distsae.store.layout import StorePaths, chunk_count
from distsae.store.reader import Store, read_chunk_file
from distsae.store.records import FileRecord, UnitRecord
from distsae.store.writer import is_chunk_file

__all__ = ["verify_store"]


def verify_store(store: Store, on_file: Callable[[int], None] = lambda size: None) -> list[str]:
    """Reads every file of a sealed store and compares sizes, checksums and counts with what was promised.

    Args:
        store: an open store; opening has already checked `dataset.json` and the commit records themselves.
        on_file: called after each file with the bytes that its record promised.

    Returns:
        One line for each fault, naming the file; none for a store that is whole.
    """
    paths = StorePaths(store.path)
    faults = []
    for record in store.units:
        faults += _count_faults(store, paths, record)
        for name, (size, checksum) in record.files.items():
            faults += _file_faults(paths.attempt(record.attempt) / name, name, FileRecord(size, checksum))
            on_file(size)
    rows = sum(record.rows for record in store.units if record.split == "train")
    if rows != store.rows:
        faults.append(f"{paths.dataset} promises {store.rows} train rows; the commit records hold {rows}")
    return faults


def _file_faults(file: Path, name: str, promised: FileRecord) -> list[str]:
    try:
        if is_chunk_file(name):
            read_chunk_file(file, promised.size, promised.crc32c)
            return []
        content = file.read_bytes()
    except FileNotFoundError:
        return [f"{file} is missing"]
    except (TornData, OSError) as error:
        return [str(error)]
    if len(content) != promised.size or crc32c(content) != promised.crc32c:
        return [f"{file} is damaged: its content is not what its commit record promises"]
    return []


def _count_faults(store: Store, paths: StorePaths, record: UnitRecord) -> list[str]:
    """Whether the record itself names every chunk that its rows need."""
    attributes = store.attributes
    faults = []
    if record.rows != record.contexts * attributes.rows_per_context:
        faults.append(f"{paths.commit(record.index)} promises {record.rows} rows from {record.contexts} contexts")
    chunks = range(chunk_count(record.rows, attributes.chunk_rows))
    wanted = [f"act/{hook}/c/{index}/0" for hook in attributes.hooks for index in chunks]
    missing = [name for name in wanted if name not in record.files]
    if missing:
        faults.append(f"{paths.commit(record.index)} does not name {missing[0]} ({len(missing)} chunks missing)")
    return faults
