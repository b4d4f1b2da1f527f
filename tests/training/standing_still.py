"""A process that does something, and then nothing more, or rests: `python -m ... SECONDS WORDS...`.

Its watchdog sees a clock that goes when the process says so: that the machine stalls meanwhile does not count.
"""

from __future__ import annotations

import sys
import time

from distsae.training.guards import heartbeats, watchdog
from distsae.training.guards.heartbeats import Beat, Heartbeats

_PATIENCE = 60.0


def main() -> None:
    seconds, *words = sys.argv[1:]
    limit = None if seconds == "none" else float(seconds)
    clock = watchdog.time = _Clock()
    heartbeats._PATIENCE = _PATIENCE
    Heartbeats.heard.__defaults__ = (_PATIENCE,)
    if "patiently" in words:
        watchdog.Heartbeats = _Patient
    with watchdog.Watchdog(limit) as watching:
        for step in range(3):
            watching.working_on(f"step {step}: moving")
        if "rests" in words:
            watching.rest("waiting for rows")
        if "moves" in words:
            for step in range(30):
                watching.working_on(f"step {step}: moving")
                clock.shown += 0.6 * limit
                time.sleep(0.05)
            return
        _stuck_here(clock, 600 if "briefly" not in words else 0.5 if limit is None else 1.5 * limit)


def _stuck_here(clock: _Clock, seconds: float) -> None:
    clock.went_at = time.monotonic()
    time.sleep(seconds)


class _Clock:
    """Shows `shown`, and from `went_at` on what has passed since then too."""

    shown, went_at = 0.0, None
    time = staticmethod(time.time)

    def monotonic(self) -> float:
        return self.shown + (0.0 if self.went_at is None else time.monotonic() - self.went_at)


class _Patient(Heartbeats):
    """Hears rank 1 when it has beaten again, and not before: it does beat, but perhaps on a slow machine."""

    _last: Beat | None = None

    def heard(self, patience: float = _PATIENCE) -> dict[int, Beat]:
        end = time.monotonic() + patience
        while time.monotonic() < end and not self._stopped.is_set():
            found = super().heard(1.0)
            if found.get(1) not in (None, self._last):
                self._last = found[1]
                return found
            time.sleep(0.01)
        return {}


if __name__ == "__main__":
    main()
