"""The exit codes of distsae commands: what they tell the user, and the scripts that restart a command."""

from __future__ import annotations

import signal

__all__ = ["DIVERGED", "DONE", "FAILED", "INTERRUPTED", "STOPPED", "WRONG_INPUT", "as_code"]

DONE = 0
"""The work is done."""

FAILED = 1
"""Something broke: a process, a disk, a network, a file. The same command may succeed when it is started again."""

WRONG_INPUT = 2
"""The command cannot be carried out as given; nothing was started."""

DIVERGED = 3
"""A score, loss or gradient was not finite. The same command would end the same way when it is started again."""

STOPPED = 75
"""SIGTERM or SIGUSR1 asked the command to stop, and it saved a checkpoint first; the same command resumes from that
checkpoint (`EX_TEMPFAIL`)."""

INTERRUPTED = 128 + signal.SIGINT
"""Ended by Ctrl-C."""


def as_code(status: int) -> int:
    """Returns the exit code that a shell reports for the status of a process.

    Python reports a process that signal n ended as -n, a shell as 128 + n; other statuses are the same.
    """
    return 128 - status if status < 0 else status
