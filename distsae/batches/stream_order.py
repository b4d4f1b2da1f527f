"""The order of token rows: a pure function of (seed, step), the same for any number of readers.

The committed chunks of the store are permuted anew each epoch and laid end to end; the row of rows is cut into
`streams` equal parts, and batch `t` takes the next few rows of each. Every batch thus mixes rows from all over the
store, reading stays sequential, nothing is buffered for shuffling, and the state is the step alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from distsae.errors import WrongInput
from distsae.seeds import numpy_generator

__all__ = ["STREAMS", "Slice", "StreamOrder", "Visit"]

STREAMS = 64


@dataclass(frozen=True)
class Slice:
    """Rows `[start, stop)` of chunk `chunk`."""

    chunk: int
    start: int
    stop: int


class Visit(NamedTuple):
    """`stream` reads rows `[start, stop)` of chunk `chunk`, the first of them for batch `step`."""

    step: int
    stream: int
    start: int
    stop: int
    chunk: int


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
        # of the last two epochs asked for: number, order of chunks, where each ends
        self._cached: tuple[tuple[int, list[int], list[int]], ...] = ()
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
        row = stream * self._stream_length + step_of_epoch * self.rows_per_stream
        return [part for _, part in self._parts(epoch, row, row + self.rows_per_stream)]

    def visits(self, step: int, streams: Sequence[int]) -> Iterator[Visit]:
        """Yields what `streams` read from batch `step` on, in the order in which it is needed, without end."""
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        while True:
            first = epoch * self.steps_per_epoch
            found = []
            for stream in streams:
                begin = stream * self._stream_length
                end = begin + self.steps_per_epoch * self.rows_per_stream
                for row, part in self._parts(epoch, begin + step_of_epoch * self.rows_per_stream, end):
                    at = first + (row - begin) // self.rows_per_stream
                    found.append((at, stream, row, part))
            found.sort(key=lambda visit: visit[:3])
            for at, stream, _, part in found:
                yield Visit(at, stream, part.start, part.stop, part.chunk)
            epoch, step_of_epoch = epoch + 1, 0

    def _parts(self, epoch: int, row: int, last: int) -> Iterator[tuple[int, Slice]]:
        """Yields rows `[row, last)` of an epoch as parts of chunks, each with the row that it begins at."""
        order, ends = self._epoch(epoch)
        place = bisect_right(ends, row)
        while row < last:
            chunk = order[place]
            begin = ends[place] - int(self._chunk_rows[chunk])
            stop = min(last, ends[place])
            yield row, Slice(chunk, row - begin, stop - begin)
            row, place = stop, place + 1

    def _epoch(self, epoch: int) -> tuple[list[int], list[int]]:
        for known, order, ends in self._cached:
            if known == epoch:
                return order, ends
        permuted = numpy_generator(self._seed, "chunks", epoch).permutation(len(self._chunk_rows))
        made = epoch, permuted.tolist(), np.cumsum(self._chunk_rows[permuted]).tolist()
        self._cached = (made, *self._cached[:1])  # one assignment: threads that read ahead ask too
        return made[1:]
