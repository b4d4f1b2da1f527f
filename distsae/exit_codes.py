"""What the exit code of a command says, to people and to the scripts that start it again."""

from __future__ import annotations

import signal

__all__ = ["DIVERGED", "DONE", "FAILED", "INTERRUPTED", "STOPPED", "WRONG_INPUT", "as_code"]

DONE = 0
"""The work is done."""

FAILED = 1
"""Something broke: a process, a disk, a network, a file. Started again, the same command may come through."""

WRONG_INPUT = 2
"""The command cannot be carried out as it is; nothing was started."""

DIVERGED = 3
"""A score, loss or gradient was not finite. Started again, the same command would end the same."""

STOPPED = 75
"""Asked to stop by SIGTERM or SIGUSR1, and did, behind a checkpoint: the same command goes on (`EX_TEMPFAIL`)."""

INTERRUPTED = 128 + signal.SIGINT
"""Ended by Ctrl-C."""


def as_code(status: int) -> int:
    """Returns what a shell makes of how a process ended: 128 + n where signal n ended it, which Python calls -n."""
    return 128 - status if status < 0 else status
