"""Reads one data rank's rows of any global batch, as they are stored, ahead of need into bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait

import numpy as np
from torch import Tensor

from distsae.batches.batch_buffer import BatchBuffer
from distsae.batches.chunk_opener import ChunkOpener
from distsae.batches.descriptors import may_open
from distsae.batches.reader_memory import BUFFERS, MOST_FILLERS, buffer_steps
from distsae.batches.stream_filler import StreamFiller
from distsae.batches.stream_order import StreamOrder
from distsae.errors import CannotContinue, TornData, WrongInput
from distsae.store import Store
from distsae.store.buffers import page_aligned
from distsae.store.layout import DTYPES

__all__ = ["RowReader"]


class RowReader:
    """Reads the rows of `streams` in the order of `StreamOrder`.

    One buffer of batches is filled while the other is in use. A buffer holds as many batches as it takes for a stream
    to have 512 KiB of rows in it, but at most 64 and at most an epoch. Each filler has one thread that fills its
    streams' part of a buffer, and one that opens and checks files ahead of it. Rows go straight from the files to their
    final position in the batches.

    Chunks that cannot be read in parts (other codecs, object stores) are kept in memory: at most two for each stream if
    these fit into `chunk_bytes`, otherwise as many as fit, but never fewer than five for every four streams. All
    together, reading takes at most `memory_bytes`.

    Args:
        store: a sealed store.
        hook: hook to read.
        order: order of the store's train chunks.
        streams: streams to read.
        most_fillers: most fillers; there are never more of them than streams.
        chunk_bytes: memory for chunks that cannot be read in parts; more is used only if the streams need it.
        pages: function that makes the memory of the buffers; see `BatchBuffer`.
    """

    def __init__(
        self,
        store: Store,
        hook: str,
        order: StreamOrder,
        streams: range,
        most_fillers: int = MOST_FILLERS,
        chunk_bytes: int = 2**30,
        pages: Callable[[int], np.ndarray] = page_aligned,
    ) -> None:
        self._order = order
        d_in, dtype = store.d_in(hook), DTYPES[store.attributes.dtype].torch
        self.batch_rows = len(streams) * order.rows_per_stream
        stream_bytes = order.rows_per_stream * d_in * dtype.itemsize
        self._steps = buffer_steps(stream_bytes, order.steps_per_epoch)
        self._buffers = [
            BatchBuffer(self._steps, len(streams), order.rows_per_stream, d_in, dtype, pages) for _ in range(BUFFERS)
        ]
        self._opener = ChunkOpener(store, hook, keep_open=may_open(2 * len(streams)))
        self._fillers: list[StreamFiller] = []
        self._most_open = 0
        fillers = min(most_fillers, len(streams))
        chunks_that_fit = chunk_bytes // store.buffer_bytes(hook) // fillers
        for first in range(fillers):
            indices = {streams[index]: index for index in range(first, len(streams), fillers)}
            fewest = len(indices) + max(len(indices) // 4, 1)
            most_open = min(max(chunks_that_fit, fewest), 2 * len(indices))
            self._fillers.append(StreamFiller(order, indices, self._opener.open, most_open))
            self._most_open += most_open
        self._current: BatchBuffer | None = None
        self._filling: deque[tuple[BatchBuffer, list[Future[None]]]] = deque()
        self._next_step = 0  # first batch of the buffer that will be filled next
        self._next_steps = 0  # most batches of that buffer
        self._stopped = False
        self._stop_lock = threading.Lock()

    @property
    def memory_bytes(self) -> int:
        """Most memory that reading takes, in bytes."""
        buffer_bytes = sum(buffer.nbytes for buffer in self._buffers)
        return buffer_bytes + self._opener.memory_bytes(len(self._fillers), self._most_open)

    def read(self, step: int) -> Tensor:
        """Returns these streams' rows of global batch `step`, `[rows, d_in]` in the storage dtype.

        The rows lie in memory of the reader and are valid until the next call. Batches in sequence are read ahead; any
        other step starts reading anew.

        Raises:
            TornData: a file is missing or damaged; the text names it.
            WrongInput: there is no such batch, because a bounded store gives its rows only once.
            CannotContinue: `stop_waiting` was called.
        """
        if self._order.steps is not None and step >= self._order.steps:
            raise WrongInput(
                f"`step` (={step}) must be below {self._order.steps}, the number of batches of the bounded store; use "
                "fewer steps"
            )
        if self._stopped:
            raise CannotContinue(f"batch {step} was asked for after the reader had been stopped")
        if self._current is None or not self._current.first <= step < self._current.last:
            if self._current is None or not self._filling or self._filling[0][0].first != step:
                self._restart(step, self._steps)
            try:
                self._take_next_buffer()
            except TornData:
                self._restart(step, 1)  # one by one, so that batches that do not need the damaged file can be read
                self._take_next_buffer()
        assert self._current is not None
        return self._current.batch(step)

    def wait_until_ahead(self) -> None:
        """Waits until as many rows are read ahead as fit into memory."""
        wait([future for _, filling in self._filling for future in filling])
        for filler in self._fillers:
            filler.wait_until_ahead()

    def stop_waiting(self) -> None:
        """Ends all waiting for units that are not committed yet; `read` fails until `reset` is called."""
        with self._stop_lock:
            self._stopped = True
            self._opener.stop_waiting()

    def reset(self) -> None:
        """Drops what was read ahead and allows `read` again; no `read` may be running."""
        wait([future for _, filling in self._filling for future in filling])
        self._filling.clear()
        self._current = None
        self._stopped = False

    def close(self) -> None:
        """Stops reading ahead and ends all threads."""
        self.stop_waiting()
        for filler in self._fillers:
            filler.close()

    def _take_next_buffer(self) -> None:
        """Makes the next buffer the current one; the one that was in use is filled again."""
        used, self._current = self._current, None  # after a failure, the next call must restart
        if used is not None:
            self._fill(used)
        buffer, filling = self._filling[0]
        for future in filling:
            future.result()
        self._filling.popleft()
        self._current = buffer

    def _restart(self, step: int, steps: int) -> None:
        """Fills all buffers from batch `step` on, each with up to `steps` batches."""
        self._current = None
        self._opener.stop_waiting()  # reading ahead may wait for a unit that is produced only after this batch is read
        wait([future for _, filling in self._filling for future in filling if not future.cancel()])
        self._filling.clear()
        for filler in self._fillers:
            filler.drop()
        with self._stop_lock:
            if self._stopped:
                raise CannotContinue(f"batch {step} was not ready before the reader was stopped")
            self._opener.allow_waiting()
        self._next_step = step
        self._next_steps = steps
        for filler in self._fillers:
            filler.seek(step)
        for buffer in self._buffers:
            self._fill(buffer)

    def _fill(self, buffer: BatchBuffer) -> None:
        """Starts to fill a buffer with the next batches, if there are any."""
        first, window = self._next_step, self._order.window
        if first == self._order.steps:
            return
        last = first + 1
        # A buffer ends with its window, because the units of the next window may not be there yet.
        while last < first + self._next_steps and window(last) == window(first):
            last += 1
        buffer.hold(first, last)
        self._filling.append((buffer, [filler.fill(buffer) for filler in self._fillers]))
        self._next_step = last
