"""Starts a launch again after a crash, until it is done or is asked to stop.

The supervisor runs for days beside the training, so it is small and does little: it starts `accelerate launch` in a
child process (`distsae.launching.launcher`), waits for it, and decides by its exit code what to do next.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from distsae.errors import WrongInput
from distsae.exit_codes import DIVERGED, DONE, INTERRUPTED, STOPPED, WRONG_INPUT, as_code
from distsae.launching.command import checked_arguments
from distsae.launching.process_tree import ProcessTree, adopting
from distsae.progress import say
from distsae.signals import listening, stop_signals

__all__ = ["SuperviseConfig", "supervise"]

_GRACE = 5.0
"""Seconds that leftover processes have to end by themselves: wandb's service, workers whose launcher was killed."""

_PATIENCE = 1.0
"""Seconds after a Ctrl-C within which another one counts as the same."""


@dataclass(frozen=True)
class SuperviseConfig:
    """When to start a launch again.

    Args:
        restarts: largest number of restarts after crashes; must be 0 with several machines.
        pause: seconds to wait before a restart.
        grace: seconds that the training has to save a checkpoint and stop after a signal; then it is killed.
    """

    restarts: int = 5
    pause: float = 5.0
    grace: float = 240.0

    def __post_init__(self) -> None:
        for name in ("restarts", "pause", "grace"):
            if getattr(self, name) < 0:
                raise WrongInput(
                    f"`{name}` (={getattr(self, name)}) must be 0 or more; use a number that is not negative"
                )


def supervise(config: SuperviseConfig, arguments: Sequence[str]) -> int:
    """Runs `accelerate launch` until its work is done, it is asked to stop, or no restart is left.

    SIGTERM, SIGUSR1, SIGHUP (a closed terminal) and SIGINT (Ctrl-C) ask the training to save a checkpoint and stop; a
    second Ctrl-C kills it, and so does the end of the grace period, as a process that waits for a GPU, which waits for
    a lost rank, hears no signal. No process of the launch is left when this function returns, and all of them end when
    this process is killed.

    Args:
        config: number of restarts, the pause before them, and the time to stop.
        arguments: arguments of `accelerate launch`.

    Returns:
        The exit code: `DONE`, `WRONG_INPUT` or `DIVERGED` from the training; `STOPPED` or `INTERRUPTED` if the training
        stopped or was asked to stop; the code of the last crash if no restart is left.

    Raises:
        WrongInput: the launch could not be started again with these arguments.
        CannotContinue: a process of a crashed launch does not end.
    """
    return _Supervisor(config, checked_arguments(arguments, config.restarts)).run()


class _Supervisor:
    def __init__(self, config: SuperviseConfig, arguments: list[str]) -> None:
        self._config = config
        self._arguments = arguments
        self._launch: subprocess.Popen[bytes] | None = None
        self._tree = ProcessTree()
        self._asked: signal.Signals | None = None  # first signal that asked to stop, or a later Ctrl-C
        self._asked_at = 0.0
        self._killed = False
        # A queue, as its `put` may be interrupted by a signal whose handler calls it too; a thread's `start` may not.
        self._requests = SimpleQueue[bool]()  # True for a request to stop, False when there is nothing left to stop
        self._ended = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe()  # a byte ends the pause before a restart

    def run(self) -> int:
        deadline = threading.Thread(target=self._kill_after_grace, name="grace", daemon=True)
        deadline.start()
        try:
            with adopting(), listening(stop_signals(), self._on_signal):
                return self._run()
        finally:
            self._ended.set()
            self._requests.put(False)
            deadline.join()

    def _run(self) -> int:
        tries = self._config.restarts + 1
        for attempt in range(1, tries + 1):
            start = time.monotonic()
            code = self._launch_once()
            seconds = time.monotonic() - start
            outcome = f"supervise: try {attempt} of {tries} ended {_ending(code)} after {seconds:.0f} s"
            if code in (DONE, WRONG_INPUT, DIVERGED):
                return code
            if self._is_asked():
                return self._stopped(code, outcome)
            if code in (STOPPED, INTERRUPTED):
                return code
            if attempt < tries:
                say(f"{outcome}; starting again in {self._config.pause:g} s")
                select.select([self._wake_reader], [], [], self._config.pause)
                if self._is_asked():
                    return self._stopped(STOPPED, outcome)
        say(f"{outcome}; no restart is left")
        return code

    def _launch_once(self) -> int:
        """Runs one launch, ends the processes that it leaves behind, and returns its exit code."""
        inherited, lifeline = os.pipe()
        try:
            self._launch = subprocess.Popen(
                [sys.executable, "-m", "distsae.launching.launcher", str(inherited), *self._arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=(inherited,),
                start_new_session=True,  # a Ctrl-C on the terminal reaches this process alone
                preexec_fn=_ignore_usr1,
            )
            if self._is_asked():  # by a signal that came before `_launch` was set
                self._launch.send_signal(signal.SIGTERM)
            status = self._launch.wait()
        finally:
            os.close(inherited)
            os.close(lifeline)
        self._tree.end(0.0 if self._killed else _GRACE)
        return as_code(status)

    def _on_signal(self, number: signal.Signals) -> None:
        now = time.monotonic()
        if number is self._asked is signal.SIGINT and now > self._asked_at + _PATIENCE:
            self._killed = True
            self._tree.kill()
            return
        if self._asked is None:
            hint = "; press Ctrl-C again to kill it" if number is signal.SIGINT else ""
            # Not `say`: the signal may have interrupted a call of it.
            with contextlib.suppress(OSError):  # the terminal may be gone
                os.write(2, f"supervise: {number.name}: asking the training to stop{hint}\n".encode())
            os.write(self._wake_writer, b".")
            self._requests.put(True)
        if self._asked is None or (number is signal.SIGINT and self._asked is not number):
            self._asked, self._asked_at = number, now
        if self._launch is not None:
            self._launch.send_signal(signal.SIGTERM)

    def _kill_after_grace(self) -> None:
        if self._requests.get() and not self._ended.wait(min(self._config.grace, threading.TIMEOUT_MAX)):
            say(f"supervise: the training has not stopped {self._config.grace:g} s after it was asked to: killing it")
            self._killed = True
            self._tree.kill()

    def _is_asked(self) -> bool:
        return self._asked is not None

    def _stopped(self, code: int, outcome: str) -> int:
        """Returns the exit code after a request to stop, given the code of the launch."""
        if code not in (STOPPED, INTERRUPTED):
            say(f"{outcome} when it was asked to stop; the same command continues from the newest checkpoint")
        return INTERRUPTED if self._asked is signal.SIGINT else STOPPED


def _ignore_usr1() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def _ending(code: int) -> str:
    try:
        return f"by {signal.Signals(code - 128).name}"
    except ValueError:
        return f"with {code}"
