"""Starting a launch again after a crash, for as long as somebody wants it to run.

A process that lives for days beside the training, so it is small and does little: it starts `accelerate launch` in a
child (`distsae.launching.launcher`), waits, and judges how that ended.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from distsae.errors import WrongInput
from distsae.exit_codes import DIVERGED, DONE, INTERRUPTED, STOPPED, WRONG_INPUT, as_code
from distsae.launching.command import checked_arguments
from distsae.launching.process_tree import ProcessTree, adopting
from distsae.progress import say
from distsae.signals import listening, stop_signals

__all__ = ["SuperviseConfig", "supervise"]

_GRACE = 5.0
"""Seconds that leftover processes get to end by themselves: wandb's service, workers whose launcher was killed."""

_PATIENCE = 1.0
"""Seconds after a Ctrl-C in which another one is taken for the same."""


@dataclass(frozen=True)
class SuperviseConfig:
    """How to start a launch again.

    Args:
        restarts: how often, at most, after a crash; must be 0 with several machines.
        pause: seconds to wait before.
    """

    restarts: int = 5
    pause: float = 5.0

    def __post_init__(self) -> None:
        for name in ("restarts", "pause"):
            if getattr(self, name) < 0:
                raise WrongInput(f"`{name}` (={getattr(self, name)}) must be 0 or more")


def supervise(config: SuperviseConfig, arguments: Sequence[str]) -> int:
    """Runs `accelerate launch` until it has done its work, was asked to stop, or crashes too often.

    SIGTERM, SIGUSR1 and SIGINT (Ctrl-C) ask the training to stop behind a checkpoint; a second Ctrl-C kills it. When
    it has ended none of its processes is left, and when this process is killed they end too.

    Args:
        config: how often to start again.
        arguments: of `accelerate launch`.

    Returns:
        The exit code: `DONE`, `WRONG_INPUT` and `DIVERGED` of the training; `STOPPED` or `INTERRUPTED` when it stopped
        or was asked to; that of the last crash when there are no restarts left.

    Raises:
        WrongInput: the arguments are not for starting again.
        CannotContinue: a process of a crashed launch does not end.
    """
    return _Supervisor(config, checked_arguments(arguments, config.restarts)).run()


class _Supervisor:
    def __init__(self, config: SuperviseConfig, arguments: list[str]) -> None:
        self._config, self._arguments = config, arguments
        self._launch: subprocess.Popen[bytes] | None = None
        self._brood = ProcessTree()
        self._asked: signal.Signals | None = None
        self._asked_at = 0.0
        self._killed = False
        self._woken, self._wake = os.pipe()

    def run(self) -> int:
        with adopting(), listening(stop_signals(), self._hear):
            tries = self._config.restarts + 1
            for attempt in range(1, tries + 1):
                began = time.monotonic()
                code = self._try()
                seconds = time.monotonic() - began
                how = f"supervise: try {attempt} of {tries} ended {_ending(code)} after {seconds:.0f} s"
                if code in (DONE, WRONG_INPUT, DIVERGED):
                    return code
                if self._is_asked():
                    return self._stopped(code, how)
                if code in (STOPPED, INTERRUPTED):
                    return code
                if attempt < tries:
                    say(f"{how}; starting again in {self._config.pause:g} s")
                    select.select([self._woken], [], [], self._config.pause)
                    if self._is_asked():
                        return self._stopped(STOPPED, how)
            say(f"{how}; no restart is left")
            return code

    def _try(self) -> int:
        """Launches once and returns how that ended; none of its processes is left."""
        inherited, lifeline = os.pipe()
        try:
            self._launch = subprocess.Popen(
                [sys.executable, "-m", "distsae.launching.launcher", str(inherited), *self._arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=(inherited,),
                start_new_session=True,  # a Ctrl-C on the terminal is for this process alone
                preexec_fn=_ignore_usr1,
            )
            if self._is_asked():  # meanwhile
                self._launch.send_signal(signal.SIGTERM)
            status = self._launch.wait()
        finally:
            os.close(inherited)
            os.close(lifeline)
        self._brood.end(0.0 if self._killed else _GRACE)
        return as_code(status)

    def _hear(self, number: signal.Signals) -> None:
        now = time.monotonic()
        if number is self._asked is signal.SIGINT and now > self._asked_at + _PATIENCE:
            self._killed = True
            self._brood.kill()
            return
        if self._asked is None:
            again = "; again to kill it" if number is signal.SIGINT else ""
            # Not `say`, which the signal may have come in the middle of.
            os.write(2, f"supervise: {number.name}: asking the training to stop{again}\n".encode())
            os.write(self._wake, b".")
        if self._asked is None or (number is signal.SIGINT and self._asked is not number):
            self._asked, self._asked_at = number, now
        if self._launch is not None:
            self._launch.send_signal(signal.SIGTERM)

    def _is_asked(self) -> bool:
        return self._asked is not None

    def _stopped(self, code: int, how: str) -> int:
        """Returns the exit code after a request to stop, given that of the launch."""
        if code not in (STOPPED, INTERRUPTED):
            say(f"{how} when it was to stop; the same command goes on from the newest checkpoint")
        return INTERRUPTED if self._asked is signal.SIGINT else STOPPED


def _ignore_usr1() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def _ending(code: int) -> str:
    try:
        return f"by {signal.Signals(code - 128).name}"
    except ValueError:
        return f"with {code}"
