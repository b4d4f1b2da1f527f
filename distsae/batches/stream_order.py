"""The order of token rows: a pure function of (seed, step), the same for any number of readers.

The committed chunks of the store are permuted anew each epoch and laid end to end; the row of rows is cut into
`streams` equal parts, and batch `t` takes the next few rows of each. Every batch thus mixes rows from all over the
store, reading stays sequential, nothing is buffered for shuffling, and the state is the step alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distsae.errors import WrongInput
from distsae.seeds import numpy_generator

__all__ = ["STREAMS", "Slice", "StreamOrder"]

STREAMS = 64


@dataclass(frozen=True)
class Slice:
    """Rows `[start, stop)` of chunk `chunk`."""

    chunk: int
    start: int
    stop: int


class StreamOrder:
    """Says which rows make global batch `step`.

    The tail rule: rows beyond the last whole batch of an epoch, fewer than `batch_tokens + streams`, are left out;
    they are others in every epoch.

    Args:
        chunk_rows: rows of each committed chunk, in the store's order.
        batch_tokens: rows of a global batch, a multiple of `streams`.
        seed: seed of the order.
        streams: number of streams.
    """

    def __init__(self, chunk_rows: Sequence[int], batch_tokens: int, seed: int, streams: int = STREAMS) -> None:
        if batch_tokens <= 0 or batch_tokens % streams:
            raise WrongInput(f"`batch_tokens` (={batch_tokens}) must be a positive multiple of {streams}")
        self.streams, self.rows_per_stream = streams, batch_tokens // streams
        self._chunk_rows, self._seed = np.asarray(chunk_rows, dtype=np.int64), seed
        self._cached: tuple[int, list[int], list[int]] | None = None  # epoch, chunk order, ends of the chunks in it
        self._stream_length = int(self._chunk_rows.sum()) // streams
        self.steps_per_epoch = self._stream_length // self.rows_per_stream
        if not self.steps_per_epoch:
            raise WrongInput(
                f"`batch_tokens` (={batch_tokens}) must not exceed the store's training rows; "
                f"got {int(self._chunk_rows.sum())}; use smaller batches or produce more rows"
            )

    def slices(self, step: int, stream: int) -> list[Slice]:
        """Returns the rows that `stream` gives to global batch `step` (counted from 0), in order."""
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        order, ends = self._epoch(epoch)
        row = stream * self._stream_length + step_of_epoch * self.rows_per_stream
        last = row + self.rows_per_stream
        found: list[Slice] = []
        place = bisect_right(ends, row)
        while row < last:
            chunk = order[place]
            begin = ends[place] - int(self._chunk_rows[chunk])
            stop = min(last, ends[place])
            found.append(Slice(chunk, row - begin, stop - begin))
            row, place = stop, place + 1
        return found

    def _epoch(self, epoch: int) -> tuple[list[int], list[int]]:
        if self._cached is None or self._cached[0] != epoch:
            order = numpy_generator(self._seed, "chunks", epoch).permutation(len(self._chunk_rows))
            self._cached = (epoch, order.tolist(), np.cumsum(self._chunk_rows[order]).tolist())
        return self._cached[1:]
