"""Finds, signals and ends all descendants of a process, so that none is left when the next ones are started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from distsae.errors import CannotContinue

__all__ = ["ProcessTree", "adopting"]

_POLL = 0.05
_UNKILLABLE = 60.0
"""Seconds after SIGKILL until a process is reported as unkillable: it waits in the kernel, for a GPU perhaps."""

_PR_SET_CHILD_SUBREAPER = 36


@contextmanager
def adopting() -> Iterator[None]:
    """Within this context, this process becomes the parent of descendants whose own parent ends. Linux only.

    A launcher that is killed leaves its workers behind, and only a parent can be sure to find them. On other systems
    this does nothing.
    """
    if sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class ProcessTree:
    """The descendants of this process that were started after the object was created.

    A child that has ended but was not waited for counts until `end` collects its exit status.
    """

    def __init__(self) -> None:
        self._root = psutil.Process()
        self._older = frozenset(self._root.children())

    def children(self) -> list[psutil.Process]:
        """Returns the processes whose parent is this process."""
        return [child for child in self._root.children() if child not in self._older]

    def all(self) -> list[psutil.Process]:
        """Returns the children, their children and so on; parents come first."""
        found = []
        for child in self.children():
            found.append(child)
            with contextlib.suppress(psutil.NoSuchProcess):
                found += child.children(recursive=True)
        return found

    def kill(self) -> None:
        """Sends SIGKILL to all processes of the tree and does not wait."""
        _send(self.all(), signal.SIGKILL)

    def end(self, patience: float = 0.0) -> None:
        """Ends all processes of the tree and waits until they are gone.

        No other thread may start processes meanwhile.

        Args:
            patience: seconds between SIGTERM and SIGKILL; 0 sends SIGKILL at once.

        Raises:
            CannotContinue: a process does not end.
        """
        start = time.monotonic()
        terminated = set[psutil.Process]()
        while True:
            self._collect_ended()
            left = self.all()
            if not left:
                return
            passed = time.monotonic() - start
            if passed >= patience:
                _send(left, signal.SIGKILL)
            else:
                _send([process for process in left if process not in terminated], signal.SIGTERM)
                terminated.update(left)
            if passed > patience + _UNKILLABLE:
                pids = ", ".join(str(process.pid) for process in left)
                raise CannotContinue(
                    f"process {pids} does not end, and its GPU and memory stay occupied; check it with "
                    f"`ps -o pid,stat,wchan,cmd {pids}`"
                )
            time.sleep(_POLL)

    def _collect_ended(self) -> None:
        """Waits for children that have ended, so that the system removes them from its table."""
        for child in self.children():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)


def _send(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
