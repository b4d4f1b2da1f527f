"""The lock of a run folder: two jobs in one folder would overwrite each other's checkpoints and mix their metrics."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import time
from io import FileIO
from pathlib import Path

from distsae.errors import CannotContinue
from distsae.progress import say

__all__ = ["FolderLock"]

_POLL_SECONDS = 0.2
_HELD_ERRORS = (errno.EWOULDBLOCK, errno.EACCES)
"""Errors which mean that another process holds the lock; any other one means that there are no locks."""


class FolderLock:
    """An advisory lock on a file, which the operating system releases when its process ends, even after a kill.

    On a file system without locks it has no effect.

    Args:
        path: file to lock; it is created, and stays.
        patience: seconds to wait for another job, which may be about to end.
    """

    def __init__(self, path: Path, patience: float = 30.0) -> None:
        self._path = path
        self._patience = patience
        self._file: FileIO | None = None

    def acquire(self) -> None:
        """Acquires the lock; does nothing if this object holds it.

        Raises:
            CannotContinue: another process holds the lock; the text names it and its host. The same command may succeed
                later: a network file system keeps the lock of a dead machine for some minutes.
        """
        if self._file is not None:
            return
        deadline = time.monotonic() + self._patience
        announced = False
        file = self._path.open("ab+", buffering=0)
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in _HELD_ERRORS:
                    break
                if time.monotonic() > deadline:
                    holder = self._path.read_text().strip()
                    file.close()
                    raise CannotContinue(
                        f"`out` (={self._path.parent}) must be used by one job at a time; got another job that "
                        f"trains into it, {holder}; wait until it ends or choose another `out` (if it is gone for "
                        f"good, remove {self._path})"
                    ) from None
            if not announced:
                say(f"{self._path.parent}: waiting for the job that trains into it, {self._path.read_text().strip()}")
                announced = True
            time.sleep(_POLL_SECONDS)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n".encode())
        self._file = file

    def release(self) -> None:
        """Releases the lock, if this object holds it."""
        if self._file is not None:
            self._file.close()
            self._file = None
