"""Writes units while the next one is computed: a thread writes, checks and commits them, one at a time."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from distsae.errors import TornData
from distsae.producer.full_disk import one_line_if_disk_full
from distsae.store import (
    Claims,
    Split,
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
    """Commits computed units in a thread and releases their claims.

    The `with` block ends only when the last unit is committed, also after an error in the block. A process holds at
    most two units in memory: the one that is written and the one that is computed. An error in the thread, such as
    CannotContinue for a full disk, is raised once, by the next method that is called.

    Args:
        root: the store.
        attributes: attributes of the store.
        claims: claims of this process, among them those on the units that are put.
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
        """Waits until the previous unit is committed, and starts to write this one."""
        self.wait()
        self._unit = self._thread.submit(self._commit, unit, data)

    def check(self) -> None:
        """Raises an error that has occurred in the thread; does not wait."""
        if self._unit is not None and self._unit.done():
            self.wait()

    def wait(self) -> None:
        """Returns when every unit that was put is committed, by this process or another one."""
        unit, self._unit = self._unit, None
        if unit is not None:
            unit.result()

    def _commit(self, unit: int, data: UnitData) -> None:
        try:
            commit_data(self._root, self._attributes, unit, unit_split(self._attributes, unit, self._units), data)
            seal_early(self._root, self._attributes)  # in this thread: a reader need not wait for the next unit
        finally:
            self._claims.release(StorePaths(self._root).unit_name(unit))


def commit_data(root: Location, attributes: StoreAttributes, unit: int, split: Split, data: UnitData) -> None:
    """Writes an attempt and commits it; returns when the unit is committed, by this process or another one.

    Raises:
        CannotContinue: the disk is full.
        TornData: the files on disk differ from what was written.
    """
    try:
        with one_line_if_disk_full(root):
            commit_unit(root, write_attempt(root, attributes, unit, split, data))
    except (FileNotFoundError, TornData):
        # An attempt is removed once another process has committed its unit, or once that unit was read and released.
        if unit not in units_done(root, attributes):
            raise
