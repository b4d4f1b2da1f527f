"""Waiting for a unit of a bounded store that producers have not committed yet."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from distsae.errors import CannotContinue, TornData
from distsae.progress import say
from distsae.store import Store, reading

__all__ = ["UnitWaiter"]

_POLL, _POLL_OBJECTS = 0.3, 3.0  # seconds between looks
_SILENCE, _REMIND = 10.0, 60.0  # seconds until it is said that somebody waits, and until it is said again


class UnitWaiter:
    """Units of `store`, as they come; all units of a store that is not bounded are there."""

    def __init__(self, store: Store) -> None:
        self._store, self._given_up = store, threading.Event()
        self._lock, self._said = threading.Lock(), -_REMIND

    def wait_for(self, unit: int) -> None:
        """Returns when a unit is committed; any number of threads may wait.

        Raises:
            TornData: it was released: another reader, or this one, said that nobody needs it any more.
            CannotContinue: `give_up` was called.
        """
        poll = _POLL if isinstance(self._store.path, Path) else _POLL_OBJECTS
        begun = time.monotonic()
        while True:
            try:
                self._store.record(unit)
                return
            except FileNotFoundError:
                pass
            if unit < reading(self._store.path).released:
                raise TornData(f"unit {unit} of {self._store.path} has been released, but is read again")
            if time.monotonic() >= begun + _SILENCE:
                self._say(unit)
            if self._given_up.wait(poll):
                raise CannotContinue(f"unit {unit} of {self._store.path} was waited for when the reader was closed")

    def _say(self, unit: int) -> None:
        """Says what is waited for, once in a while, however many threads wait."""
        with self._lock:
            if time.monotonic() >= self._said + _REMIND:
                self._said = time.monotonic()
                say(f"waiting for unit {unit} of {self._store.path}, which its `distsae produce` command makes")

    def give_up(self) -> None:
        """Ends all waiting, until `go_on` is called."""
        self._given_up.set()

    def go_on(self) -> None:
        """Lets threads wait again."""
        self._given_up.clear()
