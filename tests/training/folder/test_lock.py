"""A second job waits a little for the first, and is refused; the end of a process frees the folder."""

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
lock.take()
print("taken", flush=True)
time.sleep(600)
"""


def _holder(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    return process


def test_a_killed_holder_frees_it(tmp_path, capsys, monkeypatch):
    seconds, pauses = count(), []  # a clock that goes on a second whenever it is looked at
    monkeypatch.setattr(folder_lock, "time", SimpleNamespace(monotonic=lambda: next(seconds), sleep=pauses.append))
    path = tmp_path / ".lock"
    holder = _holder(path)
    try:
        refused = FolderLock(path, patience=2.5)
        found = rf"`out` \(={tmp_path}\) must be .*process {holder.pid} on {platform.node()}; wait"
        with pytest.raises(CannotContinue, match=found):
            refused.take()
        assert capsys.readouterr().err.count("waiting for the job") == 1
        assert len(pauses) == 2
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    lock = FolderLock(path, patience=0.0)
    lock.take()
    assert path.read_text() == f"process {os.getpid()} on {platform.node()}\n"


def test_it_may_be_taken_again_after_its_release(tmp_path):
    first, second = (FolderLock(tmp_path / ".lock", patience=0.0) for _ in range(2))
    first.take()
    with pytest.raises(CannotContinue, match="one job at a time"):
        second.take()
    first.release()
    first.release()
    second.take()
    second.release()


def test_a_file_system_without_locks_goes_without(tmp_path, monkeypatch):
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    first, second = (FolderLock(tmp_path / ".lock", patience=0.0) for _ in range(2))
    first.take()
    second.take()  # nobody can tell
    assert (tmp_path / ".lock").read_text() == f"process {os.getpid()} on {platform.node()}\n"
