"""One data rank's rows of any global batch, as they are stored, read ahead into bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, wait

from torch import Tensor

from distsae.batches.batch_buffer import BatchBuffer
from distsae.batches.chunk_opener import ChunkOpener
from distsae.batches.stream_filler import StreamFiller
from distsae.batches.stream_order import StreamOrder
from distsae.errors import CannotContinue, TornData, WrongInput
from distsae.store import Store
from distsae.store.layout import DTYPES

__all__ = ["RowReader"]

_BLOCKS = 2
"""The block in use and the one that is being filled."""

_FILLERS = 2
"""Each has a thread that fills blocks and one that opens and checks files ahead of it."""

_PIECE_BYTES = 2**19
"""Read from a file at once; less costs noticeably more for each byte."""

_MOST_STEPS = 64
_ROOMY_BYTES = 2**30


class RowReader:
    """Rows of `streams` in the order of `StreamOrder`.

    Two threads fill blocks of so many batches that a stream gives 512 KiB to each, or more, one ahead of the one in
    use; two more open chunks, and check their files, ahead of need. Memory: at most `memory_bytes`. Rows go straight
    from the files to where they belong; only chunks that cannot be read in parts (other codecs, object stores) are kept
    in memory, at most two for each stream if these fit into 1 GiB, else as many as do, but never less than five for
    every four streams.

    Args:
        store: a sealed store.
        hook: hook to read.
        order: of its train chunks.
        streams: that are ours.
    """

    def __init__(self, store: Store, hook: str, order: StreamOrder, streams: range) -> None:
        self._order = order
        d_in, dtype = store.d_in(hook), DTYPES[store.attributes.dtype].torch
        self.batch_rows = len(streams) * order.rows_per_stream
        piece = order.rows_per_stream * d_in * dtype.itemsize
        self._steps = min(-(-_PIECE_BYTES // piece), order.steps_per_epoch, _MOST_STEPS)
        self._blocks = [
            BatchBuffer(self._steps, len(streams), order.rows_per_stream, d_in, dtype) for _ in range(_BLOCKS)
        ]
        self._opener = ChunkOpener(store, hook)
        self._fillers, self._most_open = [], 0
        fillers = min(_FILLERS, len(streams))
        for first in range(fillers):
            mine = {streams[place]: place for place in range(first, len(streams), fillers)}
            roomy = _ROOMY_BYTES // store.buffer_bytes(hook) // fillers
            most = min(max(roomy, len(mine) + max(len(mine) // 4, 1)), 2 * len(mine))
            self._fillers.append(StreamFiller(order, mine, self._opener.open, most))
            self._most_open += most
        self._current: BatchBuffer | None = None
        self._given_up, self._lock = False, threading.Lock()
        self._filling: deque[tuple[BatchBuffer, list[Future[None]]]] = deque()
        self._next, self._size = 0, 0  # first batch of the block that will be filled next, and its number of batches

    @property
    def memory_bytes(self) -> int:
        """Most memory that reading takes."""
        return sum(block.nbytes for block in self._blocks) + self._opener.memory_bytes(
            len(self._fillers), self._most_open
        )

    def read(self, step: int) -> Tensor:
        """Returns our rows of global batch `step`, `[rows, d_in]` in the storage dtype, in memory of the reader's own.

        They are there until the next call. Batches that follow one another are cheap; any other step begins anew.

        Raises:
            TornData: a file is missing or damaged; it is named.
            WrongInput: there is no such batch: a bounded store gives its rows once.
            CannotContinue: `give_up` was called.
        """
        if self._order.steps is not None and step >= self._order.steps:
            raise WrongInput(f"`step` (={step}) must be below {self._order.steps}, the batches of the bounded store")
        if self._given_up:
            raise CannotContinue(f"batch {step} was asked for when the reader had given up")
        if self._current is None or not self._current.first <= step < self._current.last:
            if self._current is None or not self._filling or self._filling[0][0].first != step:
                self._begin(step, self._steps)
            try:
                self._turn()
            except TornData:
                self._begin(step, 1)  # batches that need nothing of the damaged file are read
                self._turn()
        assert self._current is not None
        return self._current.batch(step)

    def wait_until_ahead(self) -> None:
        """Waits until as much is read ahead as there is memory for."""
        wait([future for _, filling in self._filling for future in filling])
        for filler in self._fillers:
            filler.wait_until_ahead()

    def give_up(self) -> None:
        """Ends all waiting for units that producers have not committed yet: until `begin_anew`, `read` fails."""
        with self._lock:
            self._given_up = True
            self._opener.give_up()

    def begin_anew(self) -> None:
        """Lets go of what was read ahead, so that the next `read` may wait again; none may be running."""
        wait([future for _, filling in self._filling for future in filling])
        self._filling.clear()
        self._current, self._given_up = None, False

    def close(self) -> None:
        """Stops reading ahead."""
        self.give_up()
        for filler in self._fillers:
            filler.close()

    def _turn(self) -> None:
        """Goes on to the next block; the one in use is filled anew."""
        used, self._current = self._current, None  # if we fail, the next call begins anew
        if used is not None:
            self._fill(used)
        block, filling = self._filling[0]
        for future in filling:
            future.result()
        self._filling.popleft()
        self._current = block

    def _begin(self, step: int, size: int) -> None:
        """Fills all blocks from batch `step` on, `size` batches each."""
        self._current = None
        self._opener.give_up()  # what was ahead may be units that nobody makes before we have read on
        wait([future for _, filling in self._filling for future in filling if not future.cancel()])
        self._filling.clear()
        for filler in self._fillers:
            filler.drop()
        with self._lock:
            if self._given_up:
                raise CannotContinue(f"batch {step} was waited for when the reader gave up")
            self._opener.go_on()
        self._next, self._size = step, size
        for filler in self._fillers:
            filler.seek(step)
        for block in self._blocks:
            self._fill(block)

    def _fill(self, block: BatchBuffer) -> None:
        """Begins to fill a block, unless all batches there are have been begun."""
        first, window = self._next, self._order.window
        if first == self._order.steps:
            return
        last = first + 1
        while last < first + self._size and window(last) == window(first):  # the next window may not be there yet
            last += 1
        block.hold(first, last)
        self._filling.append((block, [filler.fill(block) for filler in self._fillers]))
        self._next = last
