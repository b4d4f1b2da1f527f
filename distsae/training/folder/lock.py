"""One job a run folder: a second one would write over the first one's checkpoints, and both over the metrics."""

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

_POLL = 0.2
_OTHERS = (errno.EWOULDBLOCK, errno.EACCES)


class FolderLock:
    """An advisory lock, which the system gives back when its process ends, however that is.

    A file system that knows no locks goes without.

    Args:
        path: the file to lock, which is made.
        patience: seconds to wait for another job, which may be ending.
    """

    def __init__(self, path: Path, patience: float = 30.0) -> None:
        self._path, self._patience = path, patience
        self._file: FileIO | None = None

    def take(self) -> None:
        """Takes the lock, unless it has been taken by this object.

        Raises:
            CannotContinue: another process has it; where that runs is said. Started again later, this one may get it:
                a network file system holds the lock of a machine that died for minutes.
        """
        if self._file is not None:
            return
        deadline, told = time.monotonic() + self._patience, False
        file = self._path.open("ab+", buffering=0)
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in _OTHERS:
                    break
                if time.monotonic() > deadline:
                    holder = self._path.read_text().strip()
                    file.close()
                    raise CannotContinue(
                        f"`out` (={self._path.parent}) must be trained into by one job at a time; got one that trains "
                        f"already, {holder}; wait for its end or choose another `out` (if it is gone for good, "
                        f"remove {self._path})"
                    ) from None
            if not told:
                say(f"{self._path.parent}: waiting for the job that trains into it, {self._path.read_text().strip()}")
                told = True
            time.sleep(_POLL)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n".encode())
        self._file = file

    def release(self) -> None:
        """Gives the lock back, if it was taken; the file stays."""
        if self._file is not None:
            self._file.close()
            self._file = None
