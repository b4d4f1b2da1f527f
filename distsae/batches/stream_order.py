"""The order of token rows: a pure function of (seed, step), the same for any number of readers.

The committed chunks of the store are permuted anew each epoch and laid end to end; the row of rows is cut into
`streams` equal parts, and batch `t` takes the next few rows of each. Every batch thus mixes rows from all over the
store, reading stays sequential, nothing is buffered for shuffling, and the state is the step alone. A bounded store is
read in windows, one after the other and each of them once, in the same way.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from distsae.errors import WrongInput
from distsae.seeds import numpy_generator
from distsae.store import Store, windows

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

    The tail rule: rows beyond the last whole batch of an epoch (or window), fewer than `batch_tokens + streams`, are
    left out; they are others in every epoch.

    Args:
        chunk_rows: rows of each chunk, in the store's order.
        batch_tokens: rows of a global batch, a multiple of `streams`.
        seed: seed of the order.
        streams: number of streams.
        windows: numbers of the chunks of each window; without it there is no end: every epoch goes over all chunks.
    """

    def __init__(
        self,
        chunk_rows: Sequence[int],
        batch_tokens: int,
        seed: int,
        streams: int = STREAMS,
        windows: Sequence[Sequence[int]] | None = None,
    ) -> None:
        if batch_tokens <= 0 or batch_tokens % streams:
            raise WrongInput(f"`batch_tokens` (={batch_tokens}) must be a positive multiple of {streams}")
        self.batch_tokens = batch_tokens
        self.streams = streams
        self.rows_per_stream = batch_tokens // streams
        self._chunk_rows, self._seed = np.asarray(chunk_rows, dtype=np.int64), seed
        self._passes = [np.arange(len(chunk_rows))] if windows is None else [np.asarray(w) for w in windows]
        rows = [int(self._chunk_rows[chunks].sum()) for chunks in self._passes]
        self._stream_lengths = [count // streams for count in rows]
        # Step that each pass begins with, and the one after the last.
        self._begins = np.cumsum([0, *(length // self.rows_per_stream for length in self._stream_lengths)]).tolist()
        self.steps_per_epoch: int = self._begins[-1]
        self.steps = None if windows is None else self.steps_per_epoch
        # of the last two epochs asked for: number, order of chunks, where each ends
        self._cached: tuple[tuple[int, list[int], list[int]], ...] = ()
        if not all(last > first for first, last in pairwise(self._begins[: max(len(rows), 2)])):
            named = "training rows" if windows is None else "rows of a window (half of `keep_units` units)"
            raise WrongInput(
                f"`batch_tokens` (={batch_tokens}) must not exceed the store's {named}; got {rows[0]}; use smaller "
                "batches or produce more rows"
            )

    @classmethod
    def of(cls, store: Store, batch_tokens: int, seed: int) -> StreamOrder:
        """Returns the order of a store's train chunks."""
        chunks = store.chunks("train")
        rows = [chunk.rows for chunk in chunks]
        if store.attributes.keep_units is None:
            return cls(rows, batch_tokens, seed)
        of_unit: dict[int, list[int]] = {}
        for number, chunk in enumerate(chunks):
            of_unit.setdefault(chunk.unit, []).append(number)
        each = [[number for unit in units for number in of_unit[unit]] for units in windows(store.attributes)]
        return cls(rows, batch_tokens, seed, windows=each)

    def window(self, step: int) -> int:
        """Returns the number of the window (or epoch) that global batch `step` is read from."""
        return self._place(step)[0]

    def window_begin(self, step: int) -> int:
        """Returns the first step of the window (or epoch) that global batch `step` is read from."""
        return step - self._place(step)[1]

    def slices(self, step: int, stream: int) -> list[Slice]:
        """Returns the rows that `stream` gives to global batch `step` (counted from 0), in order."""
        epoch, step_of_epoch = self._place(step)
        row = stream * self._stream_length(epoch) + step_of_epoch * self.rows_per_stream
        return [part for _, part in self._parts(epoch, row, row + self.rows_per_stream)]

    def visits(self, step: int, streams: Sequence[int]) -> Iterator[Visit]:
        """Yields what `streams` read from batch `step` on, in the order in which it is needed, to the end if any."""
        epoch, step_of_epoch = self._place(step)
        while self.steps is None or step < self.steps:
            first = step - step_of_epoch
            steps = self._stream_length(epoch) // self.rows_per_stream
            found = []
            for stream in streams:
                begin = stream * self._stream_length(epoch)
                end = begin + steps * self.rows_per_stream
                for row, part in self._parts(epoch, begin + step_of_epoch * self.rows_per_stream, end):
                    at = first + (row - begin) // self.rows_per_stream
                    found.append((at, stream, row, part))
            found.sort(key=lambda visit: visit[:3])
            for at, stream, _, part in found:
                yield Visit(at, stream, part.start, part.stop, part.chunk)
            epoch = epoch + 1
            step_of_epoch = 0
            step = first + steps

    def _place(self, step: int) -> tuple[int, int]:
        """Returns the epoch or window that a step is in, and how many steps of it come before."""
        if self.steps is None:
            return divmod(step, self.steps_per_epoch)
        epoch = bisect_right(self._begins, step) - 1
        return epoch, step - self._begins[epoch]

    def _stream_length(self, epoch: int) -> int:
        return self._stream_lengths[0 if self.steps is None else epoch]

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
        chunks = self._passes[0 if self.steps is None else epoch]
        permuted = chunks[numpy_generator(self._seed, "chunks", epoch).permutation(len(chunks))]
        made = epoch, permuted.tolist(), np.cumsum(self._chunk_rows[permuted]).tolist()
        self._cached = (made, *self._cached[:1])  # one assignment: threads that read ahead ask too
        return made[1:]
