"""Fills batch buffers with the rows of some of the streams, in threads of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from distsae.batches.batch_buffer import BatchBuffer
from distsae.batches.open_ahead import OpenAhead
from distsae.batches.stream_order import StreamOrder, Visit
from distsae.errors import DistsaeError
from distsae.store.open_chunk import OpenChunk

__all__ = ["StreamFiller"]


@dataclass(eq=False)
class _Held:
    """The open chunk of a stream, of which rows `[next, stop)` are still to be read."""

    chunk: OpenChunk
    next: int
    stop: int


class StreamFiller:
    """Fills its streams' part of one buffer after the other in one thread, and opens chunks ahead in another.

    Chunks are opened and read in the order of need, so it is enough that one more may be open than there are streams.

    Args:
        order: order of the rows.
        streams: streams to read, each with its index in the buffers.
        open_chunk: opens the chunk of a visit.
        most_open: most chunks that are open at the same time; must exceed the number of streams.
    """

    def __init__(
        self,
        order: StreamOrder,
        streams: dict[int, int],
        open_chunk: Callable[[Visit], OpenChunk],
        most_open: int,
    ) -> None:
        self._order = order
        self._stream_indices = streams
        self._ahead = OpenAhead(open_chunk, most_open)
        self._held: dict[int, _Held] = {}  # stream -> its chunk that has been read in part
        self._failure: Exception | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fill")

    def seek(self, step: int) -> None:
        """Makes `step` the first batch of the next buffer; no buffer may be in the process of being filled."""
        self.drop()
        self._ahead.follow(self._order.visits(step, list(self._stream_indices)))

    def fill(self, buffer: BatchBuffer) -> Future[None]:
        """Starts to fill these streams' part of the next buffer; the result is ready when it is filled.

        The result raises `TornData` if a file is missing or damaged, and after a failure so do the results of all
        later buffers, until `seek` or `drop` is called.
        """
        return self._thread.submit(self._fill, buffer)

    def wait_until_ahead(self) -> None:
        """Waits until as many chunks are open as allowed; no buffer may be in the process of being filled."""
        self._ahead.wait_until_ahead()

    def drop(self) -> None:
        """Closes all open chunks and forgets a failure; no buffer may be in the process of being filled."""
        self._ahead.follow(iter(()))
        for held in self._held.values():
            self._ahead.release(held.chunk)
        self._held.clear()
        self._failure = None

    def close(self) -> None:
        """Ends both threads once they have finished their current step, and closes all chunks."""
        self._thread.shutdown(cancel_futures=True)
        self.drop()
        self._ahead.close()

    def _fill(self, buffer: BatchBuffer) -> None:
        if self._failure is not None:
            raise self._failure
        filled = dict.fromkeys(self._stream_indices, 0)  # rows of each stream that the buffer has
        try:
            for stream in list(self._held):
                self._read(stream, buffer, filled)
            while (taken := self._ahead.take(buffer.last)) is not None:
                visit, chunk = taken
                self._held[visit.stream] = _Held(chunk, visit.start, visit.stop)
                self._read(visit.stream, buffer, filled)
        except (DistsaeError, OSError) as error:
            self._failure = error
            raise

    def _read(self, stream: int, buffer: BatchBuffer, filled: dict[int, int]) -> None:
        """Reads rows of a stream's open chunk, up to the end of the buffer or of the visit."""
        held = self._held[stream]
        start = filled[stream]
        stop = min(start + held.stop - held.next, buffer.rows)
        held.chunk.fill(held.next, buffer.parts(self._stream_indices[stream], start, stop))
        held.next += stop - start
        filled[stream] = stop
        if held.next == held.stop:
            self._ahead.release(self._held.pop(stream).chunk)
