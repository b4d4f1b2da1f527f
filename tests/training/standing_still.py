"""A process that does something, and then nothing more, or rests: `python -m ... SECONDS WORDS...`."""

from __future__ import annotations

import sys
import time

from distsae.training.watchdog import Watchdog


def main() -> None:
    seconds, *words = sys.argv[1:]
    with Watchdog(None if seconds == "none" else float(seconds)) as watchdog:
        for step in range(3):
            watchdog.working_on(f"step {step}: moving")
        if "rests" in words:
            watchdog.rest("waiting for rows")
        if "moves" in words:
            for step in range(30):
                watchdog.working_on(f"step {step}: moving")
                time.sleep(0.05)
            return
        _stuck_here(600 if "briefly" not in words else 0.5 if seconds == "none" else 1.5 * float(seconds))


def _stuck_here(seconds: float) -> None:
    time.sleep(seconds)


if __name__ == "__main__":
    main()
