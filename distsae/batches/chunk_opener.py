"""Opens the chunks that a reader visits: from its file if it can be, else loaded into memory that is used again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from distsae.batches.stream_order import Visit
from distsae.batches.unit_waiter import UnitWaiter
from distsae.store import Store
from distsae.store.buffers import page_aligned
from distsae.store.open_chunk import ChunkFile, ChunkInMemory, OpenChunk
from distsae.store.stored_array import StoredArray

__all__ = ["ChunkOpener"]

_SCRATCH_BYTES = 2**20


class ChunkOpener:
    """Opens train chunks of one hook; any number of threads may.

    No row of a file is given out before the file has been found to be what its commit record promises, once for each
    reader: later the file is only opened. There is as much memory as was ever needed at the same time: a chunk for each
    that is open and not read from its file, a small piece for each thread that checks a file.

    Args:
        store: a sealed store.
        hook: hook to read.
    """

    def __init__(self, store: Store, hook: str) -> None:
        self._arrivals = UnitWaiter(store)
        self._store = store
        self._hook = hook
        self._chunks = store.chunks("train")
        self._checked: set[int] = set()
        self._buffers: list[np.ndarray] = []
        self._scratch: list[np.ndarray] = []

    def open(self, visit: Visit) -> OpenChunk:
        """Opens the chunk of a visit, which may take as long as reading all of it, or as producing its unit.

        Raises:
            TornData: a file is missing or damaged; it is named.
            CannotContinue: the unit was waited for in vain.
        """
        chunk = self._chunks[visit.chunk]
        self._arrivals.wait_for(chunk.unit)
        if self._store.attributes.keep_units is not None:  # read once: what is behind may be forgotten
            self._store.forget_before(chunk.unit - self._store.attributes.keep_units)
        array = self._array(chunk.unit)
        folder = _folder_of_files(array)
        if folder is None:
            return self._load(visit)
        (relative,) = array.files(chunk.index * array.chunk_rows, chunk.index * array.chunk_rows + chunk.rows)
        promised = array.promised(relative)
        file = ChunkFile(folder / relative, promised, array.dtype.itemsize * array.shape[1])
        if visit.chunk not in self._checked:
            try:
                self._check(file)
            except BaseException:
                file.close()
                raise
            self._checked.add(visit.chunk)
        return file

    def give_up(self) -> None:
        """Ends all waiting for units that are not there yet, until `go_on` is called."""
        self._arrivals.give_up()

    def go_on(self) -> None:
        """Lets chunks be waited for again."""
        self._arrivals.go_on()

    def memory_bytes(self, threads: int, most_open: int) -> int:
        """Returns the most memory that this takes with so many threads that open, and chunks open at the same time."""
        units = [record.index for record in self._store.committed() if record.split == "train"]
        loaded = any(_folder_of_files(self._array(unit)) is None for unit in units)
        return threads * _SCRATCH_BYTES + loaded * most_open * self._store.buffer_bytes(self._hook)

    def _check(self, file: ChunkFile) -> None:
        scratch = self._scratch.pop() if self._scratch else page_aligned(_SCRATCH_BYTES)
        try:
            file.check(scratch)
        finally:
            self._scratch.append(scratch)

    def _load(self, visit: Visit) -> ChunkInMemory:
        buffer = self._buffers.pop() if self._buffers else page_aligned(self._store.buffer_bytes(self._hook))
        try:
            chunk = self._chunks[visit.chunk]
            rows = self._store.read_rows(self._hook, chunk, visit.start, visit.stop, buffer)
        except BaseException:
            self._buffers.append(buffer)
            raise
        return ChunkInMemory(rows.view(torch.uint8).numpy(), visit.start, lambda: self._buffers.append(buffer))

    def _array(self, unit: int) -> StoredArray:
        return self._store.array(unit, f"act/{self._hook}")


def _folder_of_files(array: StoredArray) -> Path | None:
    """Returns the folder of an array if its rows lie in files as they are and any part of a file can be read."""
    folder = array.folder
    return folder if array.direct and isinstance(folder, Path) else None
