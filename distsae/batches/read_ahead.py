"""Chunks read before they are needed, by threads, into memory that is used again and again.

What a reader will need is known in advance, in order. Whenever a buffer is free, the next piece of that list is given
to the threads with it; the reader takes what is ready and gives buffers back when it is through with them. As the list
is worked off in the order of need, what the reader waits for always has a buffer, as long as there is one more than
the reader holds.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np

from distsae.batches.stream_order import Visit
from distsae.store.buffers import page_aligned

__all__ = ["Loaded", "ReadAhead"]


@dataclass(eq=False, frozen=True)
class Loaded:
    """A visit and its rows, `[rows, bytes]`, which lie in `buffer`."""

    visit: Visit
    rows: np.ndarray
    buffer: np.ndarray


class ReadAhead:
    """Loads visits ahead of one reader; only what is passed as `load` runs in other threads.

    Args:
        load: reads the rows of a visit into a buffer.
        buffers: most buffers that are ever in use.
        buffer_bytes: size of each; allocated when first needed.
        threads: that read.
    """

    def __init__(
        self, load: Callable[[Visit, np.ndarray], np.ndarray], buffers: int, buffer_bytes: int, threads: int
    ) -> None:
        self._load, self._buffer_bytes = load, buffer_bytes
        self._free: list[np.ndarray] = []
        self._unallocated = buffers
        self._visits: Iterator[Visit] = iter(())
        # stream -> what was begun for it, in order
        self._ahead: dict[int, deque[tuple[Visit, np.ndarray, Future[np.ndarray]]]] = defaultdict(deque)
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="read-ahead")

    def begin(self, visits: Iterator[Visit]) -> None:
        """Goes on with other visits; what was loaded ahead is dropped, what was taken must have been released."""
        dropped = [loading for waiting in self._ahead.values() for loading in waiting]
        wait([future for _, _, future in dropped if not future.cancel()])
        self._free += [buffer for _, buffer, _ in dropped]
        self._ahead.clear()
        self._visits = visits
        self._go_on()

    def take(self, stream: int) -> Loaded:
        """Returns the next visit of a stream as soon as its rows are there.

        Raises:
            TornData: it could not be read; asking again says so again.
        """
        visit, buffer, future = self._ahead[stream][0]
        rows = future.result()
        self._ahead[stream].popleft()
        return Loaded(visit, rows, buffer)

    def release(self, loaded: Loaded) -> None:
        """Gives the buffer of a visit back; its rows must not be looked at any more."""
        self._free.append(loaded.buffer)
        self._go_on()

    def settle(self) -> None:
        """Waits until everything is loaded that has a buffer; whoever measures wants no reads of others beside his."""
        wait([future for waiting in self._ahead.values() for _, _, future in waiting])

    def close(self) -> None:
        """Ends the threads, after what they are reading."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _go_on(self) -> None:
        while (self._free or self._unallocated) and (visit := next(self._visits, None)) is not None:
            if self._free:
                buffer = self._free.pop()
            else:
                buffer = page_aligned(self._buffer_bytes)
                self._unallocated -= 1
            self._ahead[visit.stream].append((visit, buffer, self._pool.submit(self._load, visit, buffer)))
