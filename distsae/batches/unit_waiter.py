"""Waits for units of a bounded store that producers have not committed yet."""

from __future__ import annotations

import threading
import time

from distsae.errors import CannotContinue, TornData
from distsae.progress import say
from distsae.store import Store, StorePaths, reading
from distsae.store.location import poll_seconds

__all__ = ["UnitWaiter"]


class UnitWaiter:
    """Lets threads wait until a unit of a store is committed; in a store that is not bounded, all units are.

    Args:
        store: a sealed store.
        first_after: seconds of waiting before the user is told.
        repeat_after: least time in seconds between two such messages, however many threads wait.
    """

    def __init__(self, store: Store, first_after: float = 10.0, repeat_after: float = 60.0) -> None:
        self._store = store
        self._stopped = threading.Event()
        self._first_after = first_after
        self._repeat_after = repeat_after
        self._notify_lock = threading.Lock()
        self._notified = -repeat_after

    def wait_for(self, unit: int) -> None:
        """Returns when a unit is committed; any number of threads may wait.

        Raises:
            TornData: the unit has been released, so it is not in the store any more.
            CannotContinue: `stop_waiting` was called.
        """
        started = time.monotonic()
        while True:
            try:
                self._store.record(unit)
                return
            except FileNotFoundError:
                pass
            if not StorePaths(self._store.path).dataset.exists():
                raise TornData(f"{self._store.path} is gone, with unit {unit}, which was waited for")
            if unit < reading(self._store.path).released:
                raise TornData(f"unit {unit} of {self._store.path} has been released, but is read again")
            if time.monotonic() >= started + self._first_after:
                self._notify(unit)
            if self._stopped.wait(poll_seconds(self._store.path)):
                raise CannotContinue(f"unit {unit} of {self._store.path} was not committed when the reader was closed")

    def _notify(self, unit: int) -> None:
        """Tells the user which unit is waited for, unless another thread has done so a short time ago."""
        with self._notify_lock:
            if time.monotonic() >= self._notified + self._repeat_after:
                self._notified = time.monotonic()
                say(f"waiting for unit {unit} of {self._store.path}, which `distsae produce` has not committed yet")

    def stop_waiting(self) -> None:
        """Makes all threads that wait raise `CannotContinue`, now and until `allow_waiting` is called."""
        self._stopped.set()

    def allow_waiting(self) -> None:
        """Allows threads to wait again."""
        self._stopped.clear()
