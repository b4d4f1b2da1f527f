"""An open chunk: any of its rows can be copied to any memory without reading the other rows.

`ChunkFile` reads rows from the chunk's file straight into their final memory, with one system call for any number of
memory areas. `ChunkInMemory` copies them from a buffer: for chunks that must be decoded first, and for those of object
stores, where every small read would be a request.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from distsae.checked_files import open_regular
from distsae.errors import TornData
from distsae.store.attempt_files import fill_from
from distsae.store.crc32c import TRAILER, crc32c, trailer_of
from distsae.store.records import FileChecksum

__all__ = ["ChunkFile", "ChunkInMemory", "OpenChunk"]


class OpenChunk(Protocol):
    """A chunk whose rows can be read."""

    def fill(self, start: int, parts: Sequence[memoryview]) -> None:
        """Fills `parts`, one after the other, with the bytes of the rows from row `start` of the chunk on.

        Raises:
            TornData: the rows are no longer there; the text names the file.
        """

    def close(self) -> None:
        """Releases the file or the memory of the chunk; must be called once."""


class ChunkFile:
    """A file of uncompressed rows that ends with the crc32c of its payload.

    Args:
        file: file of the chunk.
        promised: entry of the file in the commit record.
        row_bytes: size of a row in bytes.

    Raises:
        TornData: the file is missing or has another size than promised.
    """

    def __init__(self, file: Path, promised: FileChecksum, row_bytes: int) -> None:
        self._file = file
        self._promised = promised
        self._row_bytes = row_bytes
        self._descriptor: int | None = self._opened()

    def rest(self) -> None:
        """Closes the file between readings: each `fill` opens it for a moment. For processes with few descriptors."""
        self.close()

    def check(self, scratch: np.ndarray) -> None:
        """Reads the whole file, in pieces of the size of `scratch`, and compares it with its record.

        Args:
            scratch: memory to read into, uint8, best `page_aligned`, and small enough for the processor's cache.

        Raises:
            TornData: the file is not what its commit record promises.
        """
        payload = self._promised.size - TRAILER
        checksum = 0
        for offset in range(0, payload, len(scratch)):
            size = min(len(scratch), payload - offset)
            self._read([scratch.data[:size]], offset)
            checksum = crc32c(scratch[:size], checksum)
        trailer = bytearray(TRAILER)
        self._read([memoryview(trailer)], payload)
        if checksum != self._promised.crc32c or trailer != trailer_of(checksum):
            raise TornData(f"{self._file} is damaged: its crc32c is not the one in its commit record")

    def fill(self, start: int, parts: Sequence[memoryview]) -> None:
        """Fills `parts` with the bytes of the rows from `start` on; `check` must have accepted the file before."""
        self._read(parts, start * self._row_bytes)

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _read(self, parts: Sequence[memoryview], offset: int) -> None:
        wanted = sum(map(len, parts))
        descriptor = self._opened() if self._descriptor is None else self._descriptor
        try:
            found = fill_from(descriptor, list(parts), offset)
        finally:
            if self._descriptor is None:
                os.close(descriptor)
        if found != wanted:
            raise TornData(f"{self._file} is damaged: it has become shorter than its commit record promises")

    def _opened(self) -> int:
        try:
            descriptor = open_regular(self._file, self._file.parent)
        except FileNotFoundError:
            raise TornData(
                f"{self._file} is missing; its unit's commit record promises {self._promised.size} bytes"
            ) from None
        if (size := os.fstat(descriptor).st_size) != self._promised.size:
            os.close(descriptor)
            raise TornData(
                f"{self._file} is damaged: {size} bytes where its commit record promises {self._promised.size}"
            )
        return descriptor


class ChunkInMemory:
    """Consecutive rows of a chunk in a buffer.

    Args:
        rows: content of the rows, uint8 `[rows, bytes of a row]`, contiguous.
        first: number of the first of these rows in the chunk.
        give_back: called when the chunk is closed and its buffer may be used again.
    """

    def __init__(self, rows: np.ndarray, first: int, give_back: Callable[[], None]) -> None:
        self._bytes = rows.reshape(-1).data
        self._first = first
        self._row_bytes = rows.shape[1]
        self._give_back = give_back

    def fill(self, start: int, parts: Sequence[memoryview]) -> None:
        """Fills `parts` with the bytes of the rows from `start` on."""
        offset = (start - self._first) * self._row_bytes
        for part in parts:
            part[:] = self._bytes[offset : offset + len(part)]
            offset += len(part)

    def close(self) -> None:
        """Gives the buffer back."""
        self._give_back()
