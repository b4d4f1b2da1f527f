"""Fills blocks with the rows of some of the streams, in threads of its own."""

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
    """A chunk that a stream is in the middle of: rows `[done, stop)` are still to be read."""

    chunk: OpenChunk
    done: int
    stop: int


class StreamFiller:
    """One thread reads what some streams give to one block after the other; another one opens chunks ahead of it.

    Everything is done in the order of need, so no more chunks need be open than there are streams, and one.

    Args:
        order: of the rows.
        streams: of the lane, each with its place in the blocks.
        open_chunk: opens the chunk of a visit.
        most_open: most chunks that are ever open, more than there are streams.
    """

    def __init__(
        self,
        order: StreamOrder,
        streams: dict[int, int],
        open_chunk: Callable[[Visit], OpenChunk],
        most_open: int,
    ) -> None:
        self._order, self._places = order, streams
        self._ahead = OpenAhead(open_chunk, most_open)
        self._held: dict[int, _Held] = {}  # stream -> what it is in the middle of
        self._failed: Exception | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fill")

    def seek(self, step: int) -> None:
        """Makes `step` the first batch of the next block; no block may be being filled."""
        self.drop()
        self._ahead.follow(self._order.visits(step, list(self._places)))

    def fill(self, block: BatchBuffer) -> Future[None]:
        """Begins to fill our part of the next block.

        The result raises `TornData` if a file is missing or damaged, and so do those of all later blocks.
        """
        return self._thread.submit(self._fill, block)

    def wait_until_ahead(self) -> None:
        """Waits until as many chunks are open as may be; no block may be being filled."""
        self._ahead.wait_until_ahead()

    def close(self) -> None:
        """Ends the threads, after what they are at, and closes all chunks."""
        self._thread.shutdown(cancel_futures=True)
        self.drop()
        self._ahead.close()

    def _fill(self, block: BatchBuffer) -> None:
        if self._failed is not None:
            raise self._failed
        filled = dict.fromkeys(self._places, 0)
        try:
            for stream in list(self._held):
                self._read(stream, block, filled)
            while (taken := self._ahead.take(block.last)) is not None:
                visit, chunk = taken
                self._held[visit.stream] = _Held(chunk, visit.start, visit.stop)
                self._read(visit.stream, block, filled)
        except (DistsaeError, OSError) as error:
            self._failed = error
            raise

    def _read(self, stream: int, block: BatchBuffer, filled: dict[int, int]) -> None:
        """Reads on in what a stream holds, to the end of the block or of the visit."""
        held, begin = self._held[stream], filled[stream]
        end = min(begin + held.stop - held.done, block.rows)
        held.chunk.fill(held.done, block.parts(self._places[stream], begin, end))
        held.done, filled[stream] = held.done + end - begin, end
        if held.done == held.stop:
            self._ahead.release(self._held.pop(stream).chunk)

    def drop(self) -> None:
        """Lets go of what is open, before the lane begins elsewhere or ends."""
        self._ahead.follow(iter(()))
        for held in self._held.values():
            self._ahead.release(held.chunk)
        self._held.clear()
        self._failed = None
