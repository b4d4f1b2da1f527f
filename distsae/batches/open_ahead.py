"""Chunks opened before they are needed, by a thread, a bounded number at a time.

What a reader will visit is known in advance, in order. As long as fewer chunks are open than may be, the next visit of
that list is given to the thread; the reader takes what is ready and gives it back when it is through with it. As the
list is worked off in the order of need, what the reader waits for is always open or being opened, as long as one more
may be open than the reader holds, and a chunk that is not there yet holds up none that is needed before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

from distsae.batches.stream_order import Visit
from distsae.store.open_chunk import OpenChunk

__all__ = ["OpenAhead"]


class OpenAhead:
    """Opens visits ahead of one reader; only `open_chunk` runs in another thread.

    Args:
        open_chunk: opens the chunk of a visit.
        most_open: most chunks that are ever open.
    """

    def __init__(self, open_chunk: Callable[[Visit], OpenChunk], most_open: int) -> None:
        self._open_chunk, self._unused = open_chunk, most_open
        self._visits: Iterator[Visit] = iter(())
        self._ahead: deque[tuple[Visit, Future[OpenChunk]]] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="open")

    def follow(self, visits: Iterator[Visit]) -> None:
        """Goes on with other visits; what was opened ahead is closed, what was taken must have been released."""
        dropped = [future for _, future in self._ahead]
        wait([future for future in dropped if not future.cancel()])
        for future in dropped:
            if not future.cancelled() and future.exception() is None:
                future.result().close()
        self._unused += len(dropped)
        self._ahead.clear()
        self._visits = visits
        self._go_on()

    def take(self, before: int) -> tuple[Visit, OpenChunk] | None:
        """Returns the next visit as soon as its chunk is open, or None if it is not needed before batch `before`.

        Raises:
            TornData: it could not be opened; asking again says so again.
        """
        if not self._ahead or self._ahead[0][0].step >= before:
            return None
        visit, future = self._ahead[0]
        chunk = future.result()
        self._ahead.popleft()
        return visit, chunk

    def release(self, chunk: OpenChunk) -> None:
        """Closes what was taken."""
        chunk.close()
        self._unused += 1
        self._go_on()

    def wait_until_ahead(self) -> None:
        """Waits until as much is open as may be; whoever measures wants no reads of others beside his."""
        wait([future for _, future in self._ahead])

    def close(self) -> None:
        """Closes what was opened ahead, and ends the thread after what it is opening."""
        self.follow(iter(()))
        self._thread.shutdown()

    def _go_on(self) -> None:
        while self._unused and (visit := next(self._visits, None)) is not None:
            self._unused -= 1
            self._ahead.append((visit, self._thread.submit(self._open_chunk, visit)))
