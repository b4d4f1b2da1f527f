"""Opens chunks before they are needed, in a thread, a bounded number at a time.

The visits of a reader and their order are known in advance. As long as fewer chunks are open than allowed, the thread
is given the next visit; the reader takes the chunk when it is open and releases it when it is finished with it. Visits
are opened in the order of need. So if one more chunk may be open than the reader holds, the chunk that the reader waits
for is always open or being opened, and a chunk whose unit is not committed yet delays none that is needed before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

from distsae.batches.stream_order import Visit
from distsae.store.open_chunk import OpenChunk

__all__ = ["OpenAhead"]


class OpenAhead:
    """Opens the chunks of visits ahead of one reader; only `open_chunk` runs in another thread.

    Args:
        open_chunk: opens the chunk of a visit.
        most_open: most chunks that are open at the same time.
    """

    def __init__(self, open_chunk: Callable[[Visit], OpenChunk], most_open: int) -> None:
        self._open_chunk = open_chunk
        self._may_open = most_open  # number of chunks that may still be opened
        self._visits: Iterator[Visit] = iter(())
        self._ahead: deque[tuple[Visit, Future[OpenChunk]]] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="open")

    def follow(self, visits: Iterator[Visit]) -> None:
        """Drops the chunks that are open ahead and continues with other visits.

        Chunks that the reader has taken must be released before.
        """
        dropped = [future for _, future in self._ahead]
        wait([future for future in dropped if not future.cancel()])
        for future in dropped:
            if not future.cancelled() and future.exception() is None:
                future.result().close()
        self._may_open += len(dropped)
        self._ahead.clear()
        self._visits = visits
        self._open_more()

    def take(self, before: int) -> tuple[Visit, OpenChunk] | None:
        """Returns the next visit and its chunk once that is open, or None if no batch before `before` needs it.

        Raises:
            TornData: the chunk could not be opened; the next call raises the same error again.
        """
        if not self._ahead or self._ahead[0][0].step >= before:
            return None
        visit, future = self._ahead[0]
        chunk = future.result()
        self._ahead.popleft()
        return visit, chunk

    def release(self, chunk: OpenChunk) -> None:
        """Closes a chunk that was taken."""
        chunk.close()
        self._may_open += 1
        self._open_more()

    def wait_until_ahead(self) -> None:
        """Waits until as many chunks are open as allowed, so that a measurement that follows is not disturbed."""
        wait([future for _, future in self._ahead])

    def close(self) -> None:
        """Closes the chunks that are open ahead, and ends the thread once the chunk that it is opening is open."""
        self.follow(iter(()))
        self._thread.shutdown()

    def _open_more(self) -> None:
        while self._may_open and (visit := next(self._visits, None)) is not None:
            self._may_open -= 1
            self._ahead.append((visit, self._thread.submit(self._open_chunk, visit)))
