"""One data rank's rows of any global batch, as they are stored, read ahead into bounded memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from distsae.batches.read_ahead import Loaded, ReadAhead
from distsae.batches.stream_order import StreamOrder, Visit
from distsae.store import Store
from distsae.store.layout import DTYPES

__all__ = ["RowReader"]

_THREADS = 2
_ROOMY_BYTES = 2**30


class RowReader:
    """Rows of `streams` in the order of `StreamOrder`.

    Each stream holds the chunk that it is in the middle of, and the next chunks of all streams are read ahead in the
    order of need. Memory: at most `memory_bytes`, which is `buffers` chunks; two for each stream if these fit into
    1 GiB, else as many as do, but never less than five for every four streams. Streams enter their chunks at different
    times, so a quarter of a chunk each is far ahead; only where an epoch begins all of them need one at once.

    Args:
        store: a sealed store.
        hook: hook to read.
        order: of its train chunks.
        streams: that are ours.
    """

    def __init__(self, store: Store, hook: str, order: StreamOrder, streams: range) -> None:
        self._store, self._hook, self._order, self._streams = store, hook, order, streams
        self._chunks = store.chunks("train")
        size = store.buffer_bytes(hook)
        fewest = len(streams) + max(len(streams) // 4, 1)
        buffers = min(max(_ROOMY_BYTES // size, fewest), 2 * len(streams))
        self.memory_bytes = buffers * size
        self._ahead = ReadAhead(self._load, buffers, size, _THREADS)
        self._held: dict[int, tuple[Loaded, int]] = {}  # stream -> what it reads, and rows of it that are read already
        self._step: int | None = None  # that the streams stand before
        rows = len(streams) * order.rows_per_stream
        self._batch = torch.empty(rows, store.d_in(hook), dtype=DTYPES[store.attributes.dtype].torch)
        self._bytes = _as_bytes(self._batch)

    def read(self, step: int) -> Tensor:
        """Returns our rows of global batch `step`, `[rows, d_in]` in the storage dtype, in memory of the reader's own.

        They are there until the next call. Batches that follow one another are cheap; any other step begins anew.

        Raises:
            TornData: a file is missing or damaged; it is named.
        """
        if step != self._step:
            self._seek(step)
        self._step = None  # if we fail in the middle, the next call begins anew
        filled = 0
        for stream in self._streams:
            end = filled + self._order.rows_per_stream
            while filled < end:
                held, done = self._held.pop(stream) if stream in self._held else (self._ahead.take(stream), 0)
                count = min(len(held.rows) - done, end - filled)
                self._bytes[filled : filled + count] = held.rows[done : done + count]
                filled, done = filled + count, done + count
                if done == len(held.rows):
                    self._ahead.release(held)
                else:
                    self._held[stream] = held, done
        self._step = step + 1
        return self._batch

    def close(self) -> None:
        """Stops reading ahead."""
        self._ahead.close()

    def _seek(self, step: int) -> None:
        for held, _ in self._held.values():
            self._ahead.release(held)
        self._held.clear()
        self._ahead.begin(self._order.visits(step, self._streams))

    def _load(self, visit: Visit, buffer: np.ndarray) -> np.ndarray:
        chunk = self._chunks[visit.chunk]
        return _as_bytes(self._store.read_rows(self._hook, chunk, visit.start, visit.stop, buffer))


def _as_bytes(rows: Tensor) -> np.ndarray:
    """The same memory as uint8 `[rows, bytes of a row]`: NumPy copies small pieces with less ado, and any dtype."""
    array: np.ndarray = rows.view(torch.uint8).numpy()
    return array
