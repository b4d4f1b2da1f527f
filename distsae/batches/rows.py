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
    order of need. Memory: at most `memory_bytes`: a batch and two chunks for each stream if these fit into 1 GiB, else
    as many chunks as do, but never less than five for every four streams. Streams enter their chunks at different
    times, so one more for every four is far ahead; only where an epoch begins all of them need one at once.

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
        self._ahead = ReadAhead(self._load, buffers, size, _THREADS)
        self._held: list[Loaded | None] = [None] * len(streams)
        self._done = [0] * len(streams)  # rows that are read of what is held
        self._step: int | None = None  # that the streams stand before
        self.batch_rows = len(streams) * order.rows_per_stream
        self._batch = torch.empty(self.batch_rows, store.d_in(hook), dtype=DTYPES[store.attributes.dtype].torch)
        self._parts = np.split(_as_bytes(self._batch), len(streams))
        self.memory_bytes = buffers * size + self._batch.nbytes

    def read(self, step: int) -> Tensor:
        """Returns our rows of global batch `step`, `[rows, d_in]` in the storage dtype, in memory of the reader's own.

        They are there until the next call. Batches that follow one another are cheap; any other step begins anew.

        Raises:
            TornData: a file is missing or damaged; it is named.
        """
        if step != self._step:
            self._seek(step)
        self._step = None  # if we fail in the middle, the next call begins anew
        for place, part in enumerate(self._parts):
            held, end = self._held[place], self._done[place] + len(part)
            if held is not None and end < len(held.rows):
                np.copyto(part, held.rows[self._done[place] : end])
                self._done[place] = end
            else:
                self._cross(place, part)
        self._step = step + 1
        return self._batch

    def _cross(self, place: int, part: np.ndarray) -> None:
        """Fills `part` from the rest of what a stream holds and from what comes after it."""
        while len(part):
            held = self._held[place]
            if held is None:
                held = self._ahead.take(self._streams[place])
                self._held[place], self._done[place] = held, 0
            done = self._done[place]
            count = min(len(held.rows) - done, len(part))
            part[:count] = held.rows[done : done + count]
            self._done[place], part = done + count, part[count:]
            if done + count == len(held.rows):
                self._held[place] = None
                self._ahead.release(held)

    def settle(self) -> None:
        """Waits until as much is read ahead as there is memory for."""
        self._ahead.settle()

    def close(self) -> None:
        """Stops reading ahead."""
        self._ahead.close()

    def _seek(self, step: int) -> None:
        for held in self._held:
            if held is not None:
                self._ahead.release(held)
        self._held = [None] * len(self._streams)
        self._ahead.begin(self._order.visits(step, self._streams))

    def _load(self, visit: Visit, buffer: np.ndarray) -> np.ndarray:
        chunk = self._chunks[visit.chunk]
        return _as_bytes(self._store.read_rows(self._hook, chunk, visit.start, visit.stop, buffer))


def _as_bytes(rows: Tensor) -> np.ndarray:
    """The same memory as uint8 `[rows, bytes of a row]`: NumPy copies small pieces with less ado, and any dtype."""
    array: np.ndarray = rows.view(torch.uint8).numpy()
    return array
