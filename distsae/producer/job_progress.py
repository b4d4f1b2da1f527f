"""Shows the progress of a whole job: units that any process has committed, and rows that this process has computed."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from distsae.progress import Progress

__all__ = ["JobProgress"]


class JobProgress:
    """A progress bar over all rows of the store; units of other processes count as soon as they are committed.

    So the rate that it shows is the rate of the whole job. `shown` is the number of rows that are shown as done.

    Args:
        done: function that returns the committed units.
        unit_rows: number of rows of each unit.
        look_every: seconds between two looks at the commit records.
    """

    def __init__(self, done: Callable[[], set[int]], unit_rows: list[int], look_every: float = 2.0) -> None:
        self._done = done
        self._unit_rows = unit_rows
        self._look_every = look_every
        self._computed: dict[int, int] = {}  # rows of each unit that this process has computed
        self._look()
        self.shown = self._committed_rows
        self._progress = Progress(sum(unit_rows), "produce", "rows", done=self.shown)

    def __enter__(self) -> JobProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.close()

    def computed(self, unit: int, rows: int) -> None:
        """Adds rows that this process has computed for a unit."""
        self._computed[unit] = self._computed.get(unit, 0) + rows
        if time.monotonic() - self._looked >= self._look_every:
            self._look()
        self._show()

    def refresh(self) -> None:
        """Reads the commit records and shows the result."""
        self._look()
        self._show()

    def _look(self) -> None:
        self._looked = time.monotonic()
        self._committed = self._done()
        self._committed_rows = sum(self._unit_rows[unit] for unit in self._committed)

    def _show(self) -> None:
        uncommitted = (rows for unit, rows in self._computed.items() if unit not in self._committed)
        reached = self._committed_rows + sum(uncommitted)
        if reached > self.shown:  # it may be less if another process committed a unit that this one was computing
            self._progress.advance(reached - self.shown)
            self.shown = reached
