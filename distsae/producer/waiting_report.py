"""Reports that a producer waits for the reader of a bounded store, which may never start or never continue."""

from __future__ import annotations

import time

from distsae.progress import say
from distsae.store import StoreAttributes, committed_units, reading, unit_count, unit_split
from distsae.store.location import Location

__all__ = ["WaitingReport"]


class WaitingReport:
    """Prints, at intervals, which run the producer of a bounded store waits for.

    Args:
        root: the store.
        attributes: attributes of the store.
        first_after: seconds of waiting until the first line.
        repeat_after: seconds from one line to the next.
    """

    def __init__(
        self, root: Location, attributes: StoreAttributes, *, first_after: float = 10.0, repeat_after: float = 60.0
    ) -> None:
        self._root = root
        self._attributes = attributes
        self._first_after = first_after
        self._repeat_after = repeat_after
        self.reset()

    def reset(self) -> None:
        """Notes that there are units to produce, here or in another process."""
        self._report_at: float | None = None

    def no_room(self) -> None:
        """Notes that the store has no room for another unit, and prints a line if one is due."""
        now = time.monotonic()
        if self._report_at is None:
            self._report_at = now + self._first_after
        if now < self._report_at:
            return
        self._report_at = now + self._repeat_after
        units = unit_count(self._attributes)
        reader_state = reading(self._root)
        unread = sum(
            unit >= reader_state.released and unit_split(self._attributes, unit, units) == "train"
            for unit in committed_units(self._root, units)
        )
        reader = reader_state.reader
        awaited = f"{reader} to read on" if reader else "a training run to read the store"
        say(f"waiting for {awaited}: {unread} units are unread")
