"""`distsae supervise` as a user types it, around scripts of a few lines or around `distsae train`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from tests.end_to_end.launching import ENVIRONMENT, ROOT

SECONDS = 300
_PREAMBLE = """
import os, pathlib, signal, sys, time
here, rank = pathlib.Path(__file__).parent, os.environ["RANK"]
attempt = 1 + len(list(here.glob(f"pid-*-{rank}")))

def tell(name, text=""):  # appears with its content, or not at all
    fresh = here / f".{name}"
    fresh.write_text(str(text))
    fresh.rename(here / name)

def started():
    tell(f"port-{attempt}-{rank}", os.environ["MASTER_PORT"])
    tell(f"pid-{attempt}-{rank}", os.getpid())

def until_asked(code):
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: None)  # as training does: asked is asked
    signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
    started()
    while not asked:
        time.sleep(0.02)
    sys.exit(code)
"""


def default_signals() -> None:
    """Lets a child hear Ctrl-C also where the tests themselves run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Supervised:
    """A supervisor with its launch, from the moment it is made until it has ended.

    Args:
        folder: where it runs; its output goes to `out` there.
        command: what accelerate launch starts: a script's path and arguments, or `-m module ...`.
        options: of `distsae supervise`.
        processes: how many.
        environment: beside the usual one.
    """

    def __init__(
        self,
        folder: Path,
        command: list[str],
        *options: str,
        processes: int = 2,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._out = folder / "out"
        config = str(ROOT / "cluster_configs" / "cpu_2.yaml")
        launch = ["--config_file", config, "--num_processes", str(processes), *command]
        with self._out.open("a") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "distsae", "supervise", *options, "--", *launch],
                env={**ENVIRONMENT, **(environment or {})},
                cwd=folder,
                stdout=out,
                stderr=out,
                preexec_fn=default_signals,
            )

    @classmethod
    def script(cls, folder: Path, body: str, *options: str) -> Supervised:
        """Supervises a script of which `body` is the end; see `_PREAMBLE` for what it may use."""
        path = folder / "script.py"
        path.write_text(_PREAMBLE + body)
        return cls(folder, [str(path)], *options)

    @property
    def said(self) -> str:
        return self._out.read_text()

    def until(self, true: Callable[[], bool]) -> None:
        """Waits for something to become true while the supervisor lives."""
        deadline = time.monotonic() + SECONDS
        while not true():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.01)

    def started(self, attempt: int = 1) -> list[psutil.Process]:
        """Waits until both processes of a try run, and returns them."""
        paths = [self.folder / f"pid-{attempt}-{rank}" for rank in (0, 1)]
        self.until(lambda: all(path.exists() for path in paths))
        return [psutil.Process(int(path.read_text())) for path in paths]

    def code(self) -> int:
        return self.process.wait(SECONDS)

    def kill(self) -> None:
        """Leaves nothing behind, whatever the test has shown."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.kill()
        self.process.wait()


def gone(processes: list[psutil.Process], seconds: float = SECONDS) -> bool:
    """Waits for processes that are nobody's children here to end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(_runs(process) for process in processes):
            return True
        time.sleep(0.02)
    return False


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def send(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
