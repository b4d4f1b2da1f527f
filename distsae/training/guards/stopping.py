"""Stopping when asked, on all ranks behind the same step.

A scheduler's signal may reach one process of the job or all of them, in the middle of anything, once or twice. It is
only noted. Each step carries a vote: an all-reduce of one number, under way while the step computes, tells every rank
whether any was asked before the step began.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

import torch
import torch.distributed as dist

from distsae.exit_codes import STOPPED
from distsae.progress import say
from distsae.signals import listening, stop_signals

__all__ = ["StopVote"]

_PATIENCE = 2.0
"""Seconds after a Ctrl-C in which another one is taken for the same: launchers pass on what the terminal sent too."""


class StopVote:
    """Listens to SIGTERM, SIGUSR1 and SIGINT (Ctrl-C) until the `with` block ends, in the main thread.

    A second Ctrl-C ends the process there and then. Other signals may come as often as they like.

    Attributes:
        group: of all processes, to vote in, and for nothing else; None for one process.
    """

    def __init__(self) -> None:
        self.group: dist.ProcessGroup | None = None
        self._asked: signal.Signals | None = None
        self._interrupted_at = math.inf
        self._told = False
        self._doing: str | None = "starting"  # what may be left where it is; nothing is lost until the first step
        self._left = ""
        self._ballot = torch.zeros((), dtype=torch.int64)
        self._voting: dist.Work | None = None
        self._listening = ExitStack()

    def __enter__(self) -> StopVote:
        self._listening.enter_context(listening(stop_signals(), self._note))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()
        if self._left and self._asked is not None and isinstance(error, SystemExit | KeyboardInterrupt):
            say(f"stopped by {self._asked.name} while {self._left}; the same command goes on")

    def open_vote(self) -> None:
        """Begins the vote of a step; every rank calls it, and then `outcome`."""
        self._doing = None
        if self._asked is not None and not self._told:
            self._told = True
            again = "; again to end at once, without a checkpoint" if self._asked is signal.SIGINT else ""
            say(f"{self._asked.name}: stopping after this step, behind a checkpoint{again}")
        self._ballot.fill_(self._asked or 0)
        if self.group is not None:
            self._voting = dist.all_reduce(self._ballot, dist.ReduceOp.MAX, self.group, async_op=True)

    def outcome(self) -> signal.Signals | None:
        """Returns the signal that some rank had got when the vote began; None if none had."""
        if self._voting is not None:
            self._voting.wait()
            self._voting = None
        return signal.Signals(int(self._ballot)) if self._ballot else None

    @contextmanager
    def at_once(self, doing: str, possible: bool = True) -> Iterator[None]:
        """Lets a signal end this process where it comes, within the block, which may take long.

        Until the first `begin` it does so anyway.

        Args:
            doing: what is done there, for people.
            possible: whether nothing would be lost; otherwise the signal is noted as ever.

        Raises:
            SystemExit: with `STOPPED`, after SIGTERM or SIGUSR1.
            KeyboardInterrupt: after SIGINT.
        """
        self._doing = doing if possible else None
        try:
            self._end_if_possible()
            yield
        finally:
            self._doing = None

    def _end_if_possible(self) -> None:
        if self._asked is None or self._doing is None:
            return
        self._left = self._doing
        if self._asked is signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(STOPPED)

    def _note(self, number: signal.Signals) -> None:
        now = time.monotonic()
        if number is signal.SIGINT:
            if now > self._interrupted_at + _PATIENCE:
                raise KeyboardInterrupt
            self._interrupted_at = min(self._interrupted_at, now)
        if self._asked is None or number > self._asked:
            self._asked = number
        self._end_if_possible()
