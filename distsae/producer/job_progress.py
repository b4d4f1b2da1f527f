"""Progress of the whole job, as one of its processes sees it: what all have committed and what this one has in hand."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from distsae.progress import Progress
from distsae.store import committed_units

__all__ = ["JobProgress"]


class JobProgress:
    """Rows done, of all rows, counting other processes' units when they are committed.

    Args:
        root: folder of the store.
        unit_rows: rows of each unit.
        look_every: seconds between looks at the commit records.
    """

    def __init__(self, root: Path, unit_rows: list[int], look_every: float = 2.0) -> None:
        self._root, self._unit_rows, self._look_every = root, unit_rows, look_every
        self._in_hand = 0
        self._committed = self._shown = self._count_committed()
        self._progress = Progress(sum(unit_rows), "produce", "rows", done=self._committed)

    def __enter__(self) -> JobProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.close()

    def working(self, rows: int) -> None:
        """Adds rows that were computed and not yet committed."""
        self._in_hand += rows
        if time.monotonic() - self._looked >= self._look_every:
            self._committed = self._count_committed()
        self._show()

    def unit_ended(self) -> None:
        """The unit in hand is committed (or was given up)."""
        self._in_hand = 0
        self.refresh()

    def refresh(self) -> None:
        """Looks at the commit records."""
        self._committed = self._count_committed()
        self._show()

    def _count_committed(self) -> int:
        self._looked = time.monotonic()
        done = committed_units(self._root, len(self._unit_rows))
        return sum(self._unit_rows[unit] for unit in done)

    def _show(self) -> None:
        reached = min(self._committed + self._in_hand, sum(self._unit_rows))
        if reached > self._shown:  # rows of a unit that another process committed first are not taken back
            self._progress.advance(reached - self._shown)
            self._shown = reached
