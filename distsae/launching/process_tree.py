"""All processes that came from one: found, signalled, and gone before others take their place."""

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
"""Seconds after which a process that SIGKILL does not end is given up: it waits in the kernel, for a GPU perhaps."""

_PR_SET_CHILD_SUBREAPER = 36


@contextmanager
def adopting() -> Iterator[None]:
    """Makes this process the parent of descendants that lose theirs, within the block; on Linux, elsewhere nothing.

    A launcher that is killed leaves its workers behind, and only their parent is sure to find them.
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
    """The processes that this one has started since the object was made, and all that came from them."""

    def __init__(self) -> None:
        self._me = psutil.Process()
        self._before = frozenset(self._me.children())

    def children(self) -> list[psutil.Process]:
        """Returns those that this process is the parent of, ended ones that nobody has waited for included."""
        return [child for child in self._me.children() if child not in self._before]

    def all(self) -> list[psutil.Process]:
        """Returns children, their children and so on, parents first."""
        found = []
        for child in self.children():
            found.append(child)
            with contextlib.suppress(psutil.NoSuchProcess):
                found += child.children(recursive=True)
        return found

    def kill(self) -> None:
        """Sends SIGKILL to all and does not wait."""
        _send(self.all(), signal.SIGKILL)

    def end(self, patience: float = 0.0) -> None:
        """Ends all that is left, in this process's main thread or while no other one starts processes.

        Args:
            patience: seconds between SIGTERM and SIGKILL; 0 sends SIGKILL at once.

        Raises:
            CannotContinue: one of them does not end.
        """
        began, told = time.monotonic(), set[psutil.Process]()
        while True:
            self._bury()
            left = self.all()
            if not left:
                return
            passed = time.monotonic() - began
            if passed >= patience:
                _send(left, signal.SIGKILL)
            else:
                _send([process for process in left if process not in told], signal.SIGTERM)
                told.update(left)
            if passed > patience + _UNKILLABLE:
                pids = ", ".join(str(process.pid) for process in left)
                raise CannotContinue(
                    f"process {pids} does not end, and what it holds is not free; see `ps -o pid,stat,wchan,cmd {pids}`"
                )
            time.sleep(_POLL)

    def _bury(self) -> None:
        for child in self.children():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)


def _send(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
