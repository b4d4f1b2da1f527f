"""A chunk of rows, opened: any of its rows can be put anywhere, without reading the others.

`ChunkFile` reads them from the chunk's own file straight to where they are wanted, one system call for any number of
places. `ChunkInMemory` copies them from a buffer that holds the whole chunk: for chunks that must be decoded first, or
that lie where parts of a file cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import google_crc32c
import numpy as np

from distsae.errors import TornData
from distsae.store.attempt_files import TRAILER, fill_from
from distsae.store.records import AttemptFile

__all__ = ["ChunkFile", "ChunkInMemory", "OpenChunk"]


class OpenChunk(Protocol):
    """Rows of a chunk that can be asked for."""

    def fill(self, start: int, parts: Sequence[memoryview]) -> None:
        """Fills `parts`, one after the other, with the bytes of the rows from `start` on.

        Raises:
            TornData: the rows are not there any more; the file is named.
        """

    def close(self) -> None:
        """Gives back what the chunk holds; once."""


class ChunkFile:
    """A file of uncompressed rows that ends with the crc32c of its payload.

    Args:
        file: of the chunk.
        promised: by the commit record.
        row_bytes: size of a row.

    Raises:
        TornData: the file is missing or has another size than promised.
    """

    def __init__(self, file: Path, promised: AttemptFile, row_bytes: int) -> None:
        self._file = file
        self._promised = promised
        self._row_bytes = row_bytes
        try:
            self._descriptor = os.open(file, os.O_RDONLY)
        except FileNotFoundError:
            raise TornData(f"{file} is missing; its unit's commit record promises {promised.size} bytes") from None
        size = os.fstat(self._descriptor).st_size
        if size != promised.size:
            self.close()
            raise TornData(f"{file} is damaged: {size} bytes where its commit record promises {promised.size}")

    def check(self, scratch: np.ndarray) -> None:
        """Reads the whole file, in pieces of the size of `scratch`, and compares it with its record.

        Args:
            scratch: uint8, best `page_aligned`, and small enough to stay in the processor's cache.

        Raises:
            TornData: it is not what was promised.
        """
        payload = self._promised.size - TRAILER
        crc32c = 0
        read_only = scratch.view()
        read_only.flags.writeable = False  # google_crc32c takes no others
        for offset in range(0, payload, len(scratch)):
            size = min(len(scratch), payload - offset)
            self._read([scratch.data[:size]], offset)
            crc32c = google_crc32c.extend(crc32c, read_only[:size])
        trailer = os.pread(self._descriptor, TRAILER, payload)
        if crc32c != self._promised.crc32c or trailer != crc32c.to_bytes(TRAILER, "little"):
            raise TornData(f"{self._file} is damaged: its crc32c is not the one in its commit record")

    def fill(self, start: int, parts: Sequence[memoryview]) -> None:
        """Fills `parts` with the bytes of the rows from `start` on; without a check."""
        self._read(parts, start * self._row_bytes)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)

    def _read(self, parts: Sequence[memoryview], offset: int) -> None:
        wanted = sum(map(len, parts))
        if fill_from(self._descriptor, list(parts), offset) != wanted:
            raise TornData(f"{self._file} is damaged: it has become shorter than its commit record promises")


class ChunkInMemory:
    """Consecutive rows of a chunk in a buffer.

    Args:
        rows: uint8 `[rows, bytes of a row]`, contiguous.
        first: number of the first of them in the chunk.
        give_back: called when nobody needs them any more.
    """

    def __init__(self, rows: np.ndarray, first: int, give_back: Callable[[], None]) -> None:
        self._bytes = rows.reshape(-1).data
        self._first = first
        self._row_bytes = rows.shape[1]
        self._give_back = give_back

    def fill(self, start: int, parts: Sequence[memoryview]) -> None:
        """Fills `parts` with the bytes of the rows from `start` on."""
        at = (start - self._first) * self._row_bytes
        for part in parts:
            part[:] = self._bytes[at : at + len(part)]
            at += len(part)

    def close(self) -> None:
        """Gives the buffer back."""
        self._give_back()
