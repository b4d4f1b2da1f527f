"""A supervised launch in a process of its own, which ends with this process and writes to a log."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from distsae.exit_codes import as_code
from distsae.recipes.local_launch import launch_environment
from distsae.recipes.stream.plan import StreamPart

__all__ = ["StreamLaunch"]

_PR_SET_PDEATHSIG = 1


class StreamLaunch:
    """One part of a stream while it runs.

    `distsae supervise` starts the processes and ends all of them before it ends itself; the system kills the supervisor
    when this process dies, and its launcher then kills the processes.

    Args:
        part: what to launch.
        restarts: largest number of restarts after crashes.
        grace: seconds between a request to stop and a kill.
        log: file to which the part's messages are appended; None for this process's own streams.
    """

    def __init__(self, part: StreamPart, restarts: int, grace: float, log: Path | None = None) -> None:
        self.log = log
        file = None if log is None else log.open("ab")
        self.written_before = 0 if log is None else log.stat().st_size
        machines = 1 if part.machines is None else part.machines.number
        with launch_environment(part.processes, machines), file or contextlib.nullcontext():
            self._process = subprocess.Popen(
                part.command(restarts, grace),
                env={**os.environ, **part.environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # a Ctrl-C on the terminal reaches this process alone
                preexec_fn=_die_with_the_parent,
            )

    def code(self) -> int | None:
        """Returns the exit code; None while the part runs."""
        status = self._process.poll()
        return None if status is None else as_code(status)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the supervisor, which asks its processes to stop, if it still runs."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self) -> int:
        """Waits for the end and returns the exit code."""
        return as_code(self._process.wait())


def _die_with_the_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
