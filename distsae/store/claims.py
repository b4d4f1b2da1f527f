"""Claims: files that show which producer works on which unit.

A claim saves work; it is not a lock and guards no data. A producer claims a unit before it starts, renews the claim
while it works, and removes it afterwards. Other producers skip a claimed unit as long as the claim is valid (renewed
recently, by a process that is alive) and take the unit over when it is not. If two producers work on the same unit all
the same, only one of them can commit it.
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
from typing import Annotated, NamedTuple

from distsae.checked_files import Between, WrongField, parse_json, typed
from distsae.errors import CannotContinue, TornData
from distsae.store.location import Location, create, read_content, touch

__all__ = ["STALE_AFTER", "Claims", "claim_owner", "claimed", "file_system_time"]

STALE_AFTER = 60.0
"""Seconds without renewal after which a claim is void."""


_MOST_BYTES = 4096


class ClaimOwner(NamedTuple):
    """The process that has made a claim."""

    host: str
    pid: Annotated[int, Between(1, 2**31 - 1)]


class Claims:
    """The claims of one process; a thread renews them until the `with` block ends.

    Args:
        folder: folder of all claims, `STORE/claims`.
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
            with contextlib.suppress(OSError, CannotContinue):  # a claim that stays becomes void by itself
                path.unlink(missing_ok=True)

    def take(self, name: str) -> bool:
        """Claims `name` unless another claim on it is valid; returns whether this call claimed it."""
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
        """Removes this process's claim on `name`, if it has one."""
        path = self._folder / name
        if path in self._held:
            self._held.discard(path)
            path.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._ended.wait(self._renew_every):
            for path in tuple(self._held):
                with contextlib.suppress(OSError, CannotContinue):  # the next round tries again
                    touch(path, self._owner)
                    if path not in self._held:  # released in the meantime; in an object store `touch` created it again
                        path.unlink(missing_ok=True)


def claimed(folder: Location, name: str) -> bool:
    """Returns whether a claim on `name` is valid: renewed recently, by a process that is not known to be dead."""
    path = folder / name
    try:
        age = file_system_time(folder) - path.stat().st_mtime
        owner = claim_owner(path)
    except FileNotFoundError:
        return False
    if owner is None:
        return age < STALE_AFTER
    return age < STALE_AFTER and not (owner.host == socket.gethostname() and not _alive(owner.pid))


def claim_owner(path: Location) -> ClaimOwner | None:
    """Returns the process that has made a claim.

    The owner is unknown, None, while the file is empty, since its process is about to write it or died before it could;
    and if the file is not what a producer writes.

    Raises:
        FileNotFoundError: the claim has been released.
    """
    try:
        return typed(ClaimOwner, parse_json(read_content(path, _MOST_BYTES), path))
    except (TornData, WrongField):
        return None


def file_system_time(folder: Location) -> float:
    """Returns the time by the clock of the file system, which may be another machine's.

    If this process may not write to the folder, the time is that of this machine.
    """
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
