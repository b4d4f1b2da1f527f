"""Stops all ranks after the same step when any of them receives a signal.

A scheduler's signal may reach one process of the job or all of them, at any time, once or several times. The handler
only records it. Each step carries a vote: an all-reduce of two numbers tells every rank whether any rank had received a
signal before the step began, or cannot do the step because the store or the folder of the run is gone.
"""

from __future__ import annotations

import enum
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

import torch
import torch.distributed as dist

from distsae.exit_codes import STOPPED
from distsae.progress import say
from distsae.signals import listening, stop_signals

__all__ = ["StopVote", "Trouble"]


class Trouble(enum.IntEnum):
    """What a rank may have found before a step; of several kinds the largest counts."""

    NONE = 0
    FOLDER = 1
    """The folder of a run is gone or has become read-only."""
    ROWS = 2
    """The rows of the step cannot be read, so there is nothing to step on."""


class StopVote:
    """Handles SIGTERM, SIGUSR1, SIGHUP and SIGINT (Ctrl-C) until the `with` block ends, in the main thread.

    Before the first `open_vote`, and inside `interruptible` if that is safe, a signal ends the process at once.
    Anywhere else it waits for the next vote. A second Ctrl-C always ends the process at once; the other signals may be
    repeated.

    Args:
        patience: seconds after a Ctrl-C in which another one counts as the same. Launchers pass on a Ctrl-C that the
            terminal has already sent to every process.

    Attributes:
        group: process group of all ranks, used for nothing but the vote; None for one process.
    """

    def __init__(self, patience: float = 2.0) -> None:
        self.group: dist.ProcessGroup | None = None
        self._patience = patience
        self._received: signal.Signals | None = None
        self._interrupted_at = math.inf
        self._announced = False
        self._interruptible: str | None = "starting"  # activity that a signal may end; nothing is lost before step 1
        self._safe: Callable[[], bool] = lambda: True
        self._ended_activity = ""
        self._ballot = torch.zeros(2, dtype=torch.int64)  # a signal, and a trouble
        self._voting: dist.Work | None = None
        self._handlers = ExitStack()

    def __enter__(self) -> StopVote:
        self._handlers.enter_context(listening(stop_signals(), self._on_signal))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handlers.close()
        if self._ended_activity and self._received is not None and isinstance(error, SystemExit | KeyboardInterrupt):
            say(f"stopped by {self._received.name} while {self._ended_activity}; the same command continues")

    def open_vote(self, trouble: Trouble = Trouble.NONE) -> None:
        """Starts the vote of a step. Every rank calls it once a step, and `outcome` afterwards.

        Args:
            trouble: what this rank has found.
        """
        self._interruptible = None
        if self._received is not None and not self._announced:
            self._announced = True
            hint = "; again to end at once, without a checkpoint" if self._received is signal.SIGINT else ""
            say(f"{self._received.name}: stopping after this step, with a checkpoint{hint}")
        self._ballot[0], self._ballot[1] = self._received or 0, trouble
        if self.group is not None:
            self._voting = dist.all_reduce(self._ballot, dist.ReduceOp.MAX, self.group, async_op=True)

    def outcome(self) -> signal.Signals | None:
        """Returns the signal that any rank had received when the vote was opened; None if no rank had."""
        self._end_vote()
        received = int(self._ballot[0])
        return signal.Signals(received) if received else None

    def trouble(self) -> Trouble:
        """Returns the largest trouble that any rank has found."""
        self._end_vote()
        return Trouble(int(self._ballot[1]))

    def _end_vote(self) -> None:
        if self._voting is not None:
            self._voting.wait()
            self._voting = None

    @contextmanager
    def interruptible(self, activity: str, safe: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Lets a signal end this process at once inside the block, for work that may take long.

        Args:
            activity: what the block does, for the line that is printed.
            safe: returns whether nothing is lost if the process ends now, asked when a signal arrives: a checkpoint may
                reach the disk inside the block. If something is, the signal waits for the next vote as usual.

        Raises:
            SystemExit: with the code `STOPPED`, after SIGTERM, SIGUSR1 or SIGHUP.
            KeyboardInterrupt: after SIGINT.
        """
        self._interruptible, self._safe = activity, safe
        try:
            self._end_if_interruptible()
            yield
        finally:
            self._interruptible = None

    def _end_if_interruptible(self) -> None:
        if self._received is None or self._interruptible is None or not self._safe():
            return
        self._ended_activity = self._interruptible
        if self._received is signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(STOPPED)

    def _on_signal(self, number: signal.Signals) -> None:
        now = time.monotonic()
        if number is signal.SIGINT:
            if now > self._interrupted_at + self._patience:
                raise KeyboardInterrupt
            self._interrupted_at = min(self._interrupted_at, now)
        # The largest number wins on this rank as it does in the all-reduce.
        if self._received is None or number > self._received:
            self._received = number
        self._end_if_interruptible()
