"""Ends a process that makes no progress, and reports the activity of every rank.

A stuck collective or file system can neither be interrupted nor raises an error. So a thread checks at intervals
whether the process has started something new. When the time limit has passed without that, the thread prints a report
and ends the process, whatever the other threads are stuck in.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, NoReturn

from distsae.exit_codes import FAILED
from distsae.progress import speak
from distsae.training.guards.heartbeats import Beat, Heartbeats

__all__ = ["Watchdog", "report"]

_CHECKS = 20
"""Checks within the time limit; there are as many heartbeats."""

_LONGEST_INTERVAL = 10.0
"""Longest time between two checks, in seconds."""

_MOST_RANKS = 16
"""Largest number of ranks that a report names one by one; those most likely at fault come first."""


class _Activity(NamedTuple):
    name: str
    unlimited: bool
    started: float
    """By the monotonic clock, which is never set back."""


class Watchdog:
    """Ends the process when one activity inside the `with` block takes longer than the time limit.

    It prints the Python stacks of all threads first. A rank that waits for another one is not ended while that other
    rank sends heartbeats and its activity may take any time.

    Args:
        seconds: time limit of an activity; None for no limit: then nothing is watched.
        clock: monotonic clock, in seconds.
        connect: starts the heartbeats of this rank.
    """

    def __init__(
        self,
        seconds: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        connect: Callable[[Callable[[], tuple[str, bool, float]], float], Heartbeats] = Heartbeats,
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._connect = connect
        self._current = _Activity("starting", True, clock())
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._heartbeats: Heartbeats | None = None

    @property
    def activity(self) -> str:
        """What the process is doing: the activity that was started last."""
        return self._current.name

    def working_on(self, activity: str, *, unlimited: bool = False) -> None:
        """Starts an activity; its time is counted from now on.

        Args:
            activity: what the process does now, in words.
            unlimited: whether the activity may take any time.
        """
        self._current = _Activity(activity, unlimited, self._clock())

    def __enter__(self) -> Watchdog:
        if self._seconds is not None:
            interval = min(self._seconds / _CHECKS, _LONGEST_INTERVAL)
            self._heartbeats = self._connect(self._in_wall_time, interval)
            self._thread = threading.Thread(
                target=self._watch, args=(self._seconds, interval, self._heartbeats), name="watchdog", daemon=True
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
        current = self._current
        return current.name, current.unlimited, time.time() - (self._clock() - current.started)

    def _watch(self, seconds: float, interval: float, heartbeats: Heartbeats) -> None:
        read_for: _Activity | None = None
        earlier: dict[int, Beat] = {}
        while not self._ended.wait(interval):
            current = self._current
            elapsed = self._clock() - current.started
            if current.unlimited or elapsed < seconds - 4 * interval:
                continue
            # Heartbeats are read twice: a rank that sends none in between is stopped, or gone.
            if read_for is not current:
                read_for = current
                earlier = heartbeats.latest()
                continue
            if elapsed < seconds:
                continue
            latest = heartbeats.latest()
            if any(beat.unlimited and beat != earlier.get(rank) for rank, beat in latest.items()):
                continue
            if current is self._current and not self._ended.is_set():
                _end_process(
                    report(current.name, elapsed, heartbeats.rank, heartbeats.size, earlier, latest, time.time())
                )


def report(
    activity: str,
    elapsed: float,
    rank: int,
    size: int,
    earlier: dict[int, Beat],
    latest: dict[int, Beat],
    clock: float,
) -> str:
    """Returns the report on a process that makes no progress, for the user.

    Ranks without new heartbeats are named first, then those that do something else.

    Args:
        activity: what the process is doing.
        elapsed: seconds that the activity has taken.
        rank: rank of the process.
        size: number of processes of the job.
        earlier: heartbeats by rank, a few checks ago.
        latest: heartbeats by rank, now; empty if the store does not answer.
        clock: wall clock, now.
    """
    lines = [
        f"distsae: error (rank {rank} on {platform.node()}): {activity}: no progress for {elapsed:.0f} s, longer than "
        "`hang_seconds`"
    ]
    others = [number for number in range(size) if number != rank]
    silent = [number for number in others if number not in latest or latest[number] == earlier.get(number)]
    if others and not latest:
        lines.append("the activity of the other ranks is unknown: the launcher's store does not answer")
    elif others:
        alive = [number for number in others if number not in silent]
        elsewhere = [number for number in alive if latest[number].activity != activity]
        alike = [number for number in alive if latest[number].activity == activity]
        shown = [*silent, *elsewhere][:_MOST_RANKS]
        lines += [_line(number, latest.get(number), number in silent, clock) for number in shown]
        if len(silent) + len(elsewhere) > len(shown):
            lines.append(f"and {len(silent) + len(elsewhere) - len(shown)} more ranks like these")
        if len(alike) > 1:
            lines.append(f"{len(alike)} other ranks are at the same point as this one")
        elif alike:
            lines.append(f"rank {alike[0]} is at the same point as this one")
    suspect = f"check the machine of rank {silent[0]} first; " if silent and latest else ""
    lines.append(
        f"{suspect}start the same command again to resume from the newest checkpoint; if steps, saves or measurements "
        "really take that long, set a larger `hang_seconds`"
    )
    return "\n  ".join(lines)


def _line(rank: int, beat: Beat | None, silent: bool, clock: float) -> str:
    if beat is None:
        return f"rank {rank} has sent no heartbeat at all"
    status = f"last heartbeat {max(clock - beat.at, 0):.0f} s ago" if silent else "alive"
    return f"rank {rank} on {beat.host}: {status}; {beat.activity}, started {max(clock - beat.since, 0):.0f} s ago"


def _end_process(message: str) -> NoReturn:
    """Prints the message and the stacks of all threads, and ends this process without waiting for any thread."""
    speak(message)
    speak("distsae: stacks of all threads of this process:")
    with contextlib.suppress(AttributeError, OSError, RuntimeError, ValueError):  # no stderr, or one without descriptor
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
    os._exit(FAILED)
