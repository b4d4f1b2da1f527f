"""Ends a process that stands still, and says what everyone was doing.

A hung collective or a stuck file system cannot be interrupted, and raises nothing. So a thread looks whether the loop
has moved on, and when it has not for too long, tells people and ends the process, whatever that is stuck in.
"""

from __future__ import annotations

import faulthandler
import os
import platform
import sys
import threading
import time
from types import TracebackType
from typing import NamedTuple, NoReturn

from distsae.exit_codes import FAILED
from distsae.training.guards.heartbeats import Beat, Heartbeats

__all__ = ["Watchdog", "report"]

_LOOKS = 20
"""Looks within the time limit; beats are as many."""

_LONGEST_LOOK = 10.0
_MOST_RANKS = 16
"""Ranks that a message names one by one: the most telling ones."""


class _Present(NamedTuple):
    doing: str
    resting: bool
    began: float
    """By the monotonic clock, which no administrator sets."""


class Watchdog:
    """Watches over the `with` block: whatever is begun in it must be followed by something else in time.

    Before the process is ended its threads' Python stacks are printed. A rank that waits for one that rests, perhaps
    for hours, is left alone.

    Args:
        seconds: that anything may take; None watches nothing.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._present = _Present("starting", True, time.monotonic())
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._heartbeats: Heartbeats | None = None

    @property
    def doing(self) -> str:
        """What was begun last."""
        return self._present.doing

    def working_on(self, doing: str) -> None:
        """Something is begun; the time counts anew."""
        self._present = _Present(doing, False, time.monotonic())

    def rest(self, doing: str) -> None:
        """Something is begun that may take as long as it likes."""
        self._present = _Present(doing, True, time.monotonic())

    def __enter__(self) -> Watchdog:
        if self._seconds is not None:
            look = min(self._seconds / _LOOKS, _LONGEST_LOOK)
            self._heartbeats = Heartbeats(self._in_wall_time, look)
            self._thread = threading.Thread(
                target=self._watch, args=(self._seconds, look, self._heartbeats), name="watchdog", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None and self._heartbeats is not None:
            self._heartbeats.close()
            self._thread.join()

    def _in_wall_time(self) -> tuple[str, bool, float]:
        present = self._present
        return present.doing, present.resting, time.time() - (time.monotonic() - present.began)

    def _watch(self, seconds: float, look: float, heartbeats: Heartbeats) -> None:
        asked: _Present | None = None
        before: dict[int, Beat] = {}
        while not self._ended.wait(look):
            present = self._present
            stood = time.monotonic() - present.began
            if present.resting or stood < seconds - 4 * look:
                continue
            if asked is not present:  # a rank that does not beat between two looks is stopped, or gone
                asked, before = present, heartbeats.heard()
                continue
            if stood < seconds:
                continue
            now = heartbeats.heard()
            if any(beat.resting and beat != before.get(rank) for rank, beat in now.items()):
                continue
            if present is self._present and not self._ended.is_set():
                _end(report(present.doing, stood, heartbeats.rank, heartbeats.size, before, now, time.time()))


def report(
    doing: str, stood: float, rank: int, size: int, before: dict[int, Beat], now: dict[int, Beat], clock: float
) -> str:
    """Returns what people are told of a process that stands still.

    Args:
        doing: what it is doing.
        stood: seconds for which it has.
        rank: of the process.
        size: of the job.
        before: everyone's beats a few looks ago.
        now: everyone's beats, empty if nobody can be asked.
        clock: wall clock.
    """
    lines = [
        f"distsae: error (rank {rank} on {platform.node()}): {doing}: nothing has moved for {stood:.0f} s, "
        "longer than `hang_seconds`"
    ]
    others = [other for other in range(size) if other != rank]
    silent = [other for other in others if other not in now or now[other] == before.get(other)]
    if others and not now:
        lines.append("what the other ranks do is not known: the launcher's store does not answer")
    elif others:
        elsewhere = [other for other in others if other not in silent and now[other].doing != doing]
        alike = [other for other in others if other not in silent and other not in elsewhere]
        shown = [*silent, *elsewhere][:_MOST_RANKS]
        lines += [_line(other, now.get(other), other in silent, clock) for other in shown]
        if len(silent) + len(elsewhere) > len(shown):
            lines.append(f"and {len(silent) + len(elsewhere) - len(shown)} more ranks like these")
        if alike:
            lines.append(
                f"{len(alike)} other ranks stand where this one does"
                if len(alike) > 1
                else f"rank {alike[0]} stands where this one does"
            )
    suspects = f"look at the machine of rank {silent[0]} first; " if silent and now else ""
    lines.append(
        f"{suspects}start the same command again to go on from the newest checkpoint; if steps, saves or measurements "
        "do take so long, give a larger `hang_seconds`"
    )
    return "\n  ".join(lines)


def _line(rank: int, beat: Beat | None, silent: bool, clock: float) -> str:
    if beat is None:
        return f"rank {rank} was never heard of"
    age = f"last heard of {max(clock - beat.at, 0):.0f} s ago, since then silent" if silent else "alive"
    return f"rank {rank} on {beat.host}: {age}; {beat.doing}, begun {max(clock - beat.since, 0):.0f} s ago"


def _end(message: str) -> NoReturn:
    """Ends this process, whatever its other threads are stuck in."""
    print(message, file=sys.stderr, flush=True)
    print("distsae: where each thread of this process stands:", file=sys.stderr, flush=True)
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    os._exit(FAILED)
