"""The size of a store in bytes, files and inodes, from its layout; and units and chunks that a quota allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from distsae.store.layout import CONTEXT_DTYPE, ROW_ARRAYS, chunk_count

__all__ = ["StoreShape", "StoreSize", "advised", "store_size"]

_UNIT_FILES = 13
"""Files of a unit beside its activations: its commit record, metadata of the unit, of the folder of hooks, and of four
arrays of ids and one of contexts, and a chunk of each of these."""

_UNIT_FOLDERS = 14
"""Folders of a unit beside those of its hooks: itself, its attempt, `act`, two of each array of ids, three
of contexts."""

_HOOK_FILES, _HOOK_FOLDERS = 1, 2
"""Of a hook in a unit, beside its chunks, which are a file in a folder each."""

_STORE_FILES, _STORE_FOLDERS = 2, 2
"""`attributes.json` and `dataset.json`; `commits` and `data`."""

_METADATA_BYTES = 4600
"""Bytes of a unit's `zarr.json` files, and of its commit record without files and sums."""

_RECORD_BYTES = 190
"""Bytes of a file in a commit record."""

_SUM_BYTES = 21
"""Bytes of a number of the vector sums in a commit record."""

_MOST_UNIT_BYTES = 4 << 30
"""Largest unit that is advised: a producer holds two in memory."""

_CHUNKS_OF_A_STREAM = 8
"""Fewest chunks of each of the 64 streams of a batch that is advised, so that batches mix rows of the whole store."""

_STREAMS = 64


@dataclass(frozen=True, kw_only=True)
class StoreShape:
    """What the size of a store depends on.

    Args:
        rows: token rows.
        d_in: width of the activations.
        storage_bytes: bytes of a number.
        unit_rows: rows of a unit, at most.
        chunk_rows: rows of a chunk.
        context_length: tokens in a context.
        excluded_positions: positions of a context that give no row.
        hooks: number of hooks.
    """

    rows: int
    d_in: int
    storage_bytes: int = 2
    unit_rows: int = 262_144
    chunk_rows: int = 8192
    context_length: int = 128
    excluded_positions: int = 1
    hooks: int = 1

    @property
    def units(self) -> int:
        """Units, if they are all of one kind; one more if a part is held out."""
        in_context = self.context_length - self.excluded_positions
        contexts = -(-self.rows // in_context)
        return -(-contexts // max(1, self.unit_rows // in_context))


@dataclass(frozen=True)
class StoreSize:
    """Size of a store.

    Args:
        bytes: bytes of its files.
        files: number of files.
        inodes: number of files and folders.
        units: number of units.
    """

    bytes: int
    files: int
    inodes: int
    units: int


def store_size(shape: StoreShape) -> StoreSize:
    """Returns the size of a store."""
    units = shape.units
    rows = -(-shape.rows // units)
    chunks = shape.hooks * chunk_count(rows, shape.chunk_rows)
    files = _STORE_FILES + units * (_UNIT_FILES + shape.hooks * _HOOK_FILES + chunks)
    folders = _STORE_FOLDERS + units * (_UNIT_FOLDERS + shape.hooks * _HOOK_FOLDERS + chunks)
    ids = sum(dtype.itemsize for dtype in ROW_ARRAYS.values())
    contexts = shape.rows / (shape.context_length - shape.excluded_positions)
    # The last chunk of a unit is stored whole.
    stored = units * chunks * shape.chunk_rows * shape.d_in * shape.storage_bytes
    text = contexts * shape.context_length * CONTEXT_DTYPE.itemsize
    sums = _SUM_BYTES * shape.d_in * shape.hooks
    records = files * _RECORD_BYTES + units * (_METADATA_BYTES + sums)
    return StoreSize(round(stored + shape.rows * ids + text + records), files, files + folders, units)


def advised(shape: StoreShape, max_inodes: int) -> StoreShape | None:
    """Returns the smallest chunks, and then the smallest units, that a quota of inodes allows; None if none are.

    Larger chunks mix less well, and larger units take more of a producer's memory.

    Args:
        shape: the store; its units and chunks are the smallest that are tried.
        max_inodes: files and folders that the quota allows.
    """
    return next((tried for tried in _larger(shape) if store_size(tried).inodes <= max_inodes), None)


def _larger(shape: StoreShape) -> Iterator[StoreShape]:
    row_bytes = shape.d_in * shape.storage_bytes * shape.hooks
    chunk = shape.chunk_rows
    while shape.rows >= _STREAMS * _CHUNKS_OF_A_STREAM * chunk or chunk == shape.chunk_rows:
        unit = max(shape.unit_rows, chunk)
        while unit * row_bytes <= _MOST_UNIT_BYTES or unit == shape.unit_rows:
            yield replace(shape, chunk_rows=chunk, unit_rows=unit)
            unit *= 2
        chunk *= 2
