"""A part of a stream runs in a process of its own, which ends with the process that started it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from distsae.recipes.stream.launched import StreamLaunch

ROOT = Path(__file__).parents[3]


class Script:
    """A part whose command is a script."""

    processes = 1
    machines = None

    def __init__(self, text: str) -> None:
        self.environment = {"COLOUR": "blue"}
        self._text = text

    def command(self, restarts: int, grace: float) -> list[str]:
        return [sys.executable, "-c", self._text, str(restarts), str(grace)]


def test_the_log_grows_and_the_exit_code_is_that_of_a_shell(tmp_path):
    log = tmp_path / "log"
    log.write_text("before\n")
    part = StreamLaunch(Script("import os, sys; print(os.environ['COLOUR'], *sys.argv[1:]); sys.exit(3)"), 5, 2.0, log)
    assert part.wait() == part.code() == 3
    assert log.read_text() == "before\nblue 5 2.0\n"
    assert part.written_before == len("before\n")
    part.send(signal.SIGTERM)  # it has ended: nothing happens


def test_a_signal_reaches_it():
    part = StreamLaunch(Script("import time; time.sleep(600)"), 0, 0.0)
    assert part.code() is None
    part.send(signal.SIGTERM)
    assert part.wait() == 128 + signal.SIGTERM


def test_it_dies_with_the_process_that_started_it(tmp_path):
    text = (
        "import time; from tests.recipes.stream.test_launched import StreamLaunch, Script\n"
        f"part = StreamLaunch(Script('import os, time; print(os.getpid(), flush=True); time.sleep(600)'), 0, 0.0, "
        f"__import__('pathlib').Path({str(tmp_path / 'log')!r}))\ntime.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", text], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not (tmp_path / "log").exists() or not (tmp_path / "log").read_text().endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child = psutil.Process(int((tmp_path / "log").read_text()))
    parent.kill()
    parent.wait()
    assert child.wait(timeout=60) is not Ellipsis
    assert not child.is_running()
