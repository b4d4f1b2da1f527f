"""What a producer says while it waits for the reader of a bounded store, who may never come, or never come back."""

from __future__ import annotations

import time

from distsae.progress import say
from distsae.store import StoreAttributes, committed_units, reading, unit_sizes, unit_split
from distsae.store.location import Location

__all__ = ["Idle"]

_SILENCE, _REMIND = 10.0, 60.0  # seconds until it is said that somebody waits, and until it is said again


class Idle:
    """Says, now and then, whom the producer of the bounded store at `root` waits for.

    Args:
        root: the store.
        attributes: of the store.
    """

    def __init__(self, root: Location, attributes: StoreAttributes) -> None:
        self._root, self._attributes = root, attributes
        self.over()

    def over(self) -> None:
        """There is something to do, or others still do it."""
        self._say_at: float | None = None

    def waits(self) -> None:
        """There is no room for another unit."""
        now = time.monotonic()
        if self._say_at is None:
            self._say_at = now + _SILENCE
        if now < self._say_at:
            return
        self._say_at = now + _REMIND
        seen, units = reading(self._root), len(unit_sizes(self._attributes))
        unread = sum(
            unit >= seen.released and unit_split(self._attributes, unit, units) == "train"
            for unit in committed_units(self._root, units)
        )
        whom = f"{seen.reader} to read on" if seen.reader else "a training run to read the store"
        say(f"waiting for {whom}: {unread} units are unread")
