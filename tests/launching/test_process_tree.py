"""Every descendant of this process is found and ended, orphans included, and no other process is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from distsae.launching.process_tree import ProcessTree, adopting
from tests.end_to_end.supervising import gone

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""


def _parent_and_child() -> tuple[subprocess.Popen[str], psutil.Process]:
    """Starts a process with a child in a session of its own."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, psutil.Process(int(parent.stdout.readline()))


@pytest.fixture
def older():
    """A child that was started before the tree was created."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def test_children_and_grandchildren_are_ended_and_older_ones_are_not(older):
    tree = ProcessTree()
    parent, grandchild = _parent_and_child()
    assert [process.pid for process in tree.children()] == [parent.pid]
    assert [process.pid for process in tree.all()] == [parent.pid, grandchild.pid]
    tree.kill()
    assert parent.wait() == -signal.SIGKILL
    tree.end()
    assert gone([grandchild])  # an orphan now, which another process waits for
    assert tree.all() == []
    assert older.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to an ancestor")
def test_orphans_are_found_and_ended(older):
    tree = ProcessTree()
    with adopting():
        parent, grandchild = _parent_and_child()
        parent.kill()
        parent.wait()
        assert [process.pid for process in tree.all()] == [grandchild.pid]
        tree.end()
    assert not grandchild.is_running()
    assert older.poll() is None


def test_a_process_that_ends_on_sigterm_is_not_killed(tmp_path):
    script = (
        "import pathlib, signal, sys, time\n"
        f"path = pathlib.Path({str(tmp_path / 'ended')!r})\n"
        "signal.signal(signal.SIGTERM, lambda *_: (path.write_text('by SIGTERM'), sys.exit()))\n"
        "print(flush=True)\n"
        "while True: time.sleep(0.1)\n"  # a `pause` that starts just after the signal would not end
    )
    tree = ProcessTree()
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    tree.end(patience=60)
    assert (tmp_path / "ended").read_text() == "by SIGTERM"


def test_a_process_that_ignores_sigterm_is_killed():
    script = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(flush=True)\nsignal.pause()\n"
    tree = ProcessTree()
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    tree.end(patience=0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
