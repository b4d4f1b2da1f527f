"""Who is working on what: advice that saves work, never a lock that guards data.

A producer puts its claim on a unit before it starts, renews it while it works, and removes it afterwards. Others leave
claimed units alone until nothing else is to be done, and take them over when the claim has not been renewed for a
while or its process is gone. If two producers work on the same unit all the same, committing settles it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
import uuid
from types import TracebackType

from distsae.errors import CannotContinue
from distsae.store.location import Location, create, touch

__all__ = ["STALE_AFTER", "Claims", "claimed", "file_system_time"]

STALE_AFTER = 60.0
"""Seconds without renewal after which a claim counts for nothing."""


class Claims:
    """The claims of one process, renewed by a thread until the `with` block ends.

    Args:
        folder: `STORE/claims`.
        renew_every: seconds between renewals.
    """

    def __init__(self, folder: Location, renew_every: float = 5.0) -> None:
        self._folder, self._renew_every = folder, renew_every
        self._held: set[Location] = set()
        self._owner = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex}).encode()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="claims", daemon=True)

    def __enter__(self) -> Claims:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        for path in self._held:
            with contextlib.suppress(OSError, CannotContinue):  # it grows stale by itself
                path.unlink(missing_ok=True)

    def take(self, name: str) -> bool:
        """Claims `name` unless somebody alive has; says whether it is ours now."""
        path = self._folder / name
        if path.exists():
            if claimed(self._folder, name):
                return False
            path.unlink(missing_ok=True)
        if not create(path, self._owner):
            return False
        self._held.add(path)
        return True

    def release(self, name: str) -> None:
        """Gives up our claim on `name`, if we have one."""
        path = self._folder / name
        if path in self._held:
            self._held.discard(path)
            path.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._ended.wait(self._renew_every):
            for path in tuple(self._held):
                with contextlib.suppress(OSError, CannotContinue):  # the next round tries again
                    touch(path, self._owner)
                    if path not in self._held:  # given back in the meantime; an object would be there again
                        path.unlink(missing_ok=True)


def claimed(folder: Location, name: str) -> bool:
    """Says whether a living process has a claim on `name`."""
    path = folder / name
    try:
        age = file_system_time(folder) - path.stat().st_mtime
        owner = json.loads(path.read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:  # seen between its creation and its first byte, or its maker died there
        return age < STALE_AFTER
    return age < STALE_AFTER and not (owner["host"] == socket.gethostname() and not _alive(owner["pid"]))


def file_system_time(folder: Location) -> float:
    """The time by the clock of the file system, which may be another machine's; ours if we may not write there."""
    probe = folder / f".now-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"")
    except PermissionError:
        return time.time()
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return time.time()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
