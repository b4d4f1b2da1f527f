"""The order of token rows: a pure function of (seed, step), the same for any number of readers.

In every epoch, the chunks of the store are permuted anew and laid end to end. The resulting sequence of rows is cut
into `streams` equal streams, and batch `t` takes the next few rows of each. So every batch mixes rows from all over the
store, reading stays sequential, there is no shuffle buffer, and the only state is the step. A bounded store is read in
windows instead of epochs: in the same way, but each window once.
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
    """One reading of a chunk: `stream` reads its rows `[start, stop)`, the first of them for batch `step`."""

    step: int
    stream: int
    start: int
    stop: int
    chunk: int


class StreamOrder:
    """Determines which rows make up each global batch.

    The rows after the last whole batch of an epoch (or window), fewer than `batch_tokens + streams`, are left out. In
    every epoch these are different rows.

    Args:
        chunk_rows: rows of each chunk, in the store's order.
        batch_tokens: rows of a global batch, a multiple of `streams`.
        seed: seed of the permutations of chunks.
        streams: number of streams.
        windows: indices of the chunks of each window; None for a store that is not bounded: then every epoch covers all
            chunks, and there is no last batch.
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
            raise WrongInput(
                f"`batch_tokens` (={batch_tokens}) must be a positive multiple of {streams}; use "
                f"{max(batch_tokens // streams, 1) * streams}"
            )
        self.batch_tokens = batch_tokens
        self.streams = streams
        self.rows_per_stream = batch_tokens // streams
        self._chunk_rows = np.asarray(chunk_rows, dtype=np.int64)
        self._seed = seed
        # Chunks of each window; of every epoch, if there are no windows.
        self._passes = [np.arange(len(chunk_rows))] if windows is None else [np.asarray(chunks) for chunks in windows]
        rows = [int(self._chunk_rows[chunks].sum()) for chunks in self._passes]
        self._stream_lengths = [count // streams for count in rows]
        # First step of each pass, and the step after the last one.
        self._bounds = np.cumsum([0, *(length // self.rows_per_stream for length in self._stream_lengths)]).tolist()
        self.steps_per_epoch: int = self._bounds[-1]
        self.steps = None if windows is None else self.steps_per_epoch
        # The last two epochs that were computed: number, order of the chunks, row at which each chunk ends.
        self._cached: tuple[tuple[int, list[int], list[int]], ...] = ()
        if not all(last > first for first, last in pairwise(self._bounds[: max(len(rows), 2)])):
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
        chunks_of_unit: dict[int, list[int]] = {}
        for index, chunk in enumerate(chunks):
            chunks_of_unit.setdefault(chunk.unit, []).append(index)
        chunks_of_windows = []
        for units in windows(store.attributes):
            chunks_of_windows.append([index for unit in units for index in chunks_of_unit[unit]])
        return cls(rows, batch_tokens, seed, windows=chunks_of_windows)

    def window(self, step: int) -> int:
        """Returns the number of the window (or epoch) that global batch `step` is read from."""
        return self._epoch_and_step(step)[0]

    def window_begin(self, step: int) -> int:
        """Returns the first step of the window (or epoch) that global batch `step` is read from."""
        return step - self._epoch_and_step(step)[1]

    def slices(self, step: int, stream: int) -> list[Slice]:
        """Returns the rows that `stream` gives to global batch `step` (counted from 0), in order."""
        epoch, step_of_epoch = self._epoch_and_step(step)
        row = stream * self._stream_length(epoch) + step_of_epoch * self.rows_per_stream
        return [part for _, part in self._parts(epoch, row, row + self.rows_per_stream)]

    def visits(self, step: int, streams: Sequence[int]) -> Iterator[Visit]:
        """Yields all visits of `streams` from batch `step` on, in the order in which batches need them.

        In a bounded store they end with the last batch, otherwise never.
        """
        epoch, step_of_epoch = self._epoch_and_step(step)
        while self.steps is None or step < self.steps:
            first = step - step_of_epoch
            steps = self._stream_length(epoch) // self.rows_per_stream
            needed = []
            for stream in streams:
                start = stream * self._stream_length(epoch)
                stop = start + steps * self.rows_per_stream
                for row, part in self._parts(epoch, start + step_of_epoch * self.rows_per_stream, stop):
                    first_needed = first + (row - start) // self.rows_per_stream
                    needed.append((first_needed, stream, row, part))
            needed.sort(key=lambda visit: visit[:3])
            for first_needed, stream, _, part in needed:
                yield Visit(first_needed, stream, part.start, part.stop, part.chunk)
            epoch = epoch + 1
            step_of_epoch = 0
            step = first + steps

    def _epoch_and_step(self, step: int) -> tuple[int, int]:
        """Returns the epoch (or window) of a step, and the number of the step within it."""
        if self.steps is None:
            return divmod(step, self.steps_per_epoch)
        epoch = bisect_right(self._bounds, step) - 1
        return epoch, step - self._bounds[epoch]

    def _stream_length(self, epoch: int) -> int:
        return self._stream_lengths[0 if self.steps is None else epoch]

    def _parts(self, epoch: int, row: int, last: int) -> Iterator[tuple[int, Slice]]:
        """Yields rows `[row, last)` of an epoch as parts of chunks, each with the number of its first row."""
        order, ends = self._epoch(epoch)
        position = bisect_right(ends, row)
        while row < last:
            chunk = order[position]
            begin = ends[position] - int(self._chunk_rows[chunk])
            stop = min(last, ends[position])
            yield row, Slice(chunk, row - begin, stop - begin)
            row = stop
            position += 1

    def _epoch(self, epoch: int) -> tuple[list[int], list[int]]:
        """Returns the order of an epoch's chunks, and for each the row of the epoch at which it ends."""
        for cached_epoch, order, ends in self._cached:
            if cached_epoch == epoch:
                return order, ends
        chunks = self._passes[0 if self.steps is None else epoch]
        permuted = chunks[numpy_generator(self._seed, "chunks", epoch).permutation(len(chunks))]
        order, ends = permuted.tolist(), np.cumsum(self._chunk_rows[permuted]).tolist()
        self._cached = ((epoch, order, ends), *self._cached[:1])  # one assignment, since other threads read it
        return order, ends
