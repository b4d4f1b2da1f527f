"""Opens the chunks that a reader visits: as a file where possible, otherwise loaded into reused memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from distsae.batches.reader_memory import SCRATCH_BYTES
from distsae.batches.stream_order import Visit
from distsae.batches.unit_waiter import UnitWaiter
from distsae.store import Store
from distsae.store.buffers import page_aligned
from distsae.store.open_chunk import ChunkFile, ChunkInMemory, OpenChunk
from distsae.store.stored_array import StoredArray

__all__ = ["ChunkOpener"]


class ChunkOpener:
    """Opens train chunks of one hook, in any number of threads.

    The first time that a file is opened, all of it is compared with its commit record, before any of its rows is
    returned; later it is only opened. Memory is reused and never freed: one buffer for each chunk that is open at the
    same time and not read from its file, and 1 MiB for each thread that checks a file.

    Args:
        store: a sealed store.
        hook: hook to read.
        keep_open: whether files stay open between readings; False where a process may not open as many.
    """

    def __init__(self, store: Store, hook: str, *, keep_open: bool = True) -> None:
        self._keep_open = keep_open
        self._unit_waiter = UnitWaiter(store)
        self._store = store
        self._hook = hook
        self._chunks = store.chunks("train")
        self._checked: set[int] = set()
        self._buffers: list[np.ndarray] = []
        self._scratch: list[np.ndarray] = []

    def open(self, visit: Visit) -> OpenChunk:
        """Opens the chunk of a visit; this may take as long as reading all of it, or as producing its unit.

        Raises:
            TornData: a file is missing or damaged; the text names it.
            CannotContinue: `stop_waiting` was called before the unit was committed.
        """
        chunk = self._chunks[visit.chunk]
        self._unit_waiter.wait_for(chunk.unit)
        keep_units = self._store.attributes.keep_units
        if keep_units is not None:  # a bounded store is read once, so earlier units are not needed again
            self._store.forget_before(chunk.unit - keep_units)
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
        if not self._keep_open:
            file.rest()
        return file

    def stop_waiting(self) -> None:
        """Ends all waiting for units that are not committed yet, until `allow_waiting` is called."""
        self._unit_waiter.stop_waiting()

    def allow_waiting(self) -> None:
        """Allows waiting for units again."""
        self._unit_waiter.allow_waiting()

    def memory_bytes(self, threads: int, most_open: int) -> int:
        """Returns the most memory that this object takes, in bytes.

        Args:
            threads: number of threads that open chunks.
            most_open: most chunks that are open at the same time.
        """
        units = [record.index for record in self._store.committed() if record.split == "train"]
        loads_chunks = any(_folder_of_files(self._array(unit)) is None for unit in units)
        return threads * SCRATCH_BYTES + loads_chunks * most_open * self._store.buffer_bytes(self._hook)

    def _check(self, file: ChunkFile) -> None:
        scratch = self._scratch.pop() if self._scratch else page_aligned(SCRATCH_BYTES)
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
    """Returns the folder of an array if rows can be read from its files as they are, None otherwise.

    That needs uncompressed rows, and files of which any part can be read at once, so not objects.
    """
    folder = array.folder
    return folder if array.direct and isinstance(folder, Path) else None
