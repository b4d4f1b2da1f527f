"""Progress of the whole job, as one of its processes sees it: what all have committed and what this one has in hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from distsae.progress import Progress

__all__ = ["JobProgress"]


class JobProgress:
    """Rows done, of all rows, counting other processes' units when they are committed; so the rate is the job's.

    Args:
        done: returns the units that are committed.
        unit_rows: rows of each unit.
        look_every: seconds between looks at the commit records.
    """

    def __init__(self, done: Callable[[], set[int]], unit_rows: list[int], look_every: float = 2.0) -> None:
        self._done = done
        self._unit_rows = unit_rows
        self._look_every = look_every
        self._computed: dict[int, int] = {}  # rows of each unit that this process has computed
        self._look()
        self._shown = self._committed_rows
        self._progress = Progress(sum(unit_rows), "produce", "rows", done=self._shown)

    def __enter__(self) -> JobProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.close()

    def computed(self, unit: int, rows: int) -> None:
        """Adds rows of a unit that were computed."""
        self._computed[unit] = self._computed.get(unit, 0) + rows
        if time.monotonic() - self._looked >= self._look_every:
            self._look()
        self._show()

    def refresh(self) -> None:
        """Looks at the commit records."""
        self._look()
        self._show()

    def _look(self) -> None:
        self._looked = time.monotonic()
        self._committed = self._done()
        self._committed_rows = sum(self._unit_rows[unit] for unit in self._committed)

    def _show(self) -> None:
        in_hand = (rows for unit, rows in self._computed.items() if unit not in self._committed)
        reached = self._committed_rows + sum(in_hand)
        if reached > self._shown:  # rows of a unit that another process committed first are not taken back
            self._progress.advance(reached - self._shown)
            self._shown = reached
