"""A process that works for a moment and then makes no progress: `python -m tests.training.standing_still SECONDS WORD`.

The clock of its watchdog moves only when the process moves it, so that a stall of the whole machine does not count.
"""

from __future__ import annotations

import sys
import time
from functools import partial

from distsae.training.guards.heartbeats import Beat, Heartbeats
from distsae.training.guards.watchdog import Watchdog

_PATIENCE = 60.0


def main() -> None:
    seconds, *words = sys.argv[1:]
    limit = None if seconds == "none" else float(seconds)
    clock = _Clock()
    heartbeats = _Patient if "patiently" in words else Heartbeats
    with Watchdog(limit, clock=clock, connect=partial(heartbeats, patience=_PATIENCE)) as watchdog:
        for step in range(3):
            watchdog.working_on(f"step {step}: moving")
        if "unlimited" in words:
            watchdog.working_on("waiting for rows", unlimited=True)
        if "moves" in words:
            for step in range(30):
                watchdog.working_on(f"step {step}: moving")
                clock.shown += 0.6 * limit
                time.sleep(0.05)
            return
        _stuck_here(clock, 600 if "briefly" not in words else 0.5 if limit is None else 1.5 * limit)


def _stuck_here(clock: _Clock, seconds: float) -> None:
    clock.running_since = time.monotonic()
    time.sleep(seconds)


class _Clock:
    """Shows `shown`, and once it is running also the time since then."""

    def __init__(self) -> None:
        self.shown = 0.0
        self.running_since: float | None = None

    def __call__(self) -> float:
        return self.shown + (0.0 if self.running_since is None else time.monotonic() - self.running_since)


class _Patient(Heartbeats):
    """Waits each time for a new heartbeat of rank 1, which does send them, but perhaps on a slow machine."""

    _last: Beat | None = None

    def latest(self, patience: float | None = None) -> dict[int, Beat]:
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and not self._stopped.is_set():
            found = super().latest(1.0)
            if found.get(1) not in (None, self._last):
                self._last = found[1]
                return found
            time.sleep(0.01)
        return {}


if __name__ == "__main__":
    main()
