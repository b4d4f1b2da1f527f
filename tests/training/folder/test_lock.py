"""A second job waits a while for the first and is then refused; the end of a process releases its lock."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from distsae.errors import CannotContinue
from distsae.training.folder import lock as folder_lock
from distsae.training.folder.lock import FolderLock

HOLDER = """
import sys, time
from pathlib import Path
from distsae.training.folder.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
lock.acquire()
print("acquired", flush=True)
time.sleep(600)
"""


def _holder(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])
    assert process.stdout is not None
    assert process.stdout.readline() == "acquired\n"
    return process


def test_a_killed_holder_releases_the_lock(tmp_path, capsys, monkeypatch):
    seconds, pauses = count(), []  # a clock that advances by a second with each reading
    monkeypatch.setattr(folder_lock, "time", SimpleNamespace(monotonic=lambda: next(seconds), sleep=pauses.append))
    path = tmp_path / ".lock"
    holder = _holder(path)
    try:
        second = FolderLock(path, patience=2.5)
        message = rf"`out` \(={tmp_path}\) must be .*process {holder.pid} on {platform.node()}; wait"
        with pytest.raises(CannotContinue, match=message):
            second.acquire()
        assert capsys.readouterr().err.count("waiting for the job") == 1
        assert len(pauses) == 2
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    lock = FolderLock(path, patience=0.0)
    lock.acquire()
    assert path.read_text() == f"process {os.getpid()} on {platform.node()}\n"


def test_a_released_lock_can_be_acquired_again(tmp_path):
    first, second = (FolderLock(tmp_path / ".lock", patience=0.0) for _ in range(2))
    first.acquire()
    with pytest.raises(CannotContinue, match="one job at a time"):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_on_a_file_system_without_locks_the_lock_has_no_effect(tmp_path, monkeypatch):
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    first, second = (FolderLock(tmp_path / ".lock", patience=0.0) for _ in range(2))
    first.acquire()
    second.acquire()
    assert (tmp_path / ".lock").read_text() == f"process {os.getpid()} on {platform.node()}\n"
