"""Units to disk while the next one is computed: one thread that writes, checks and commits them, one at a time."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from distsae.errors import TornData
from distsae.producer.full_disk import full_disk_named
from distsae.store import (
    Claims,
    StoreAttributes,
    StorePaths,
    UnitData,
    commit_unit,
    seal_early,
    unit_contexts,
    unit_split,
    units_done,
    write_attempt,
)
from distsae.store.location import Location

__all__ = ["UnitWriter", "commit_data"]


class UnitWriter:
    """Takes a computed unit and its claim, and gives the claim back when the unit is committed.

    The `with` block ends when the last unit is committed, whatever ended it, so a process holds at most two units:
    the one that is written and the one that is computed.

    Args:
        root: the store.
        attributes: of the store.
        claims: with the claims on the units that are put.

    Raises:
        CannotContinue: a full disk. Any method raises what went wrong in the thread, once.
    """

    def __init__(self, root: Location, attributes: StoreAttributes, claims: Claims) -> None:
        self._root = root
        self._attributes = attributes
        self._claims = claims
        self._units = len(unit_contexts(attributes))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="unit-writer")
        self._unit: Future[None] | None = None

    def __enter__(self) -> UnitWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        self.wait()

    def put(self, unit: int, data: UnitData) -> None:
        """Hands over a unit, after waiting for the one before it."""
        self.wait()
        self._unit = self._thread.submit(self._commit, unit, data)

    def check(self) -> None:
        """Raises what went wrong in the thread, and waits for nothing."""
        if self._unit is not None and self._unit.done():
            self.wait()

    def wait(self) -> None:
        """Returns when everything that was put is committed, by us or by another producer."""
        unit, self._unit = self._unit, None
        if unit is not None:
            unit.result()

    def _commit(self, unit: int, data: UnitData) -> None:
        try:
            commit_data(self._root, self._attributes, unit, unit_split(self._attributes, unit, self._units), data)
            seal_early(self._root, self._attributes)  # here, so that its reader need not wait for our next unit
        finally:
            self._claims.release(StorePaths(self._root).unit_name(unit))


def commit_data(root: Location, attributes: StoreAttributes, unit: int, split: str, data: UnitData) -> None:
    """Writes an attempt and commits it; returns when the unit is committed, by us or by another producer.

    Raises:
        CannotContinue: a full disk.
        TornData: what is on disk is not what was written.
    """
    try:
        with full_disk_named(root):
            commit_unit(root, write_attempt(root, attributes, unit, split, data))
    except (FileNotFoundError, TornData):
        # Attempts are removed when another producer has committed their unit, or when that has been read and released.
        if unit not in units_done(root, attributes):
            raise
