"""Stops a producer on SIGTERM (a scheduler), SIGUSR1 (a launcher), SIGINT (Ctrl-C) or SIGHUP (a closed terminal).

A signal may arrive at any time. Where a stop leaves nothing behind, it raises at once. Inside `deferred` it is only
recorded, and the work ends at its next `check`, after a write that is in progress. A second signal ends the process
immediately, like a process without a handler, and leaves behind what a kill would; but SIGUSR1, which a launcher
repeats, counts once.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import TracebackType

from distsae.errors import DistsaeError
from distsae.exit_codes import STOPPED
from distsae.progress import say
from distsae.signals import listening

__all__ = ["Stop"]

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)


class Stop:
    """Handles SIGTERM, SIGUSR1, SIGHUP and SIGINT until the `with` block ends, in the main thread, which receives them.

    A signal that is ignored, as in a background job, stays ignored, but for SIGUSR1: `distsae supervise` ignores it on
    behalf of its processes until they have a handler. The block ends with `SystemExit`, of code 143 after SIGTERM and
    SIGHUP and 75 after SIGUSR1, or with `KeyboardInterrupt` after SIGINT, and one line is printed.

    Args:
        progress: function that returns a phrase on the progress of the work for that line; the line is printed without
            it if the function raises.
    """

    def __init__(self, progress: Callable[[], str]) -> None:
        self._progress = progress
        self._received: signal.Signals | None = None
        self._deferred = False
        self._handled: list[signal.Signals] = []
        self._handlers = contextlib.ExitStack()

    def __enter__(self) -> Stop:
        wanted = [
            number for number in _SIGNALS if number is signal.SIGUSR1 or signal.getsignal(number) is not signal.SIG_IGN
        ]
        self._handled = self._handlers.enter_context(listening(wanted, self._on_signal))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handlers.close()
        if self._received is not None and isinstance(error, SystemExit | KeyboardInterrupt):
            progress = ""
            with contextlib.suppress(OSError, DistsaeError):  # an unreachable store must not change the exit code
                progress = f": {self._progress()}"
            say(f"stopped by {self._received.name}{progress}; the same command continues")

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Within this context a signal waits for the next `check`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def check(self) -> None:
        """Ends the work here if a signal was received.

        Raises:
            SystemExit: SIGTERM or SIGHUP was received, and the code is 143; or SIGUSR1, and the code is 75.
            KeyboardInterrupt: SIGINT was received.
        """
        if self._received is signal.SIGINT:
            raise KeyboardInterrupt
        if self._received is signal.SIGUSR1:
            raise SystemExit(STOPPED)
        if self._received is not None:
            raise SystemExit(128 + signal.SIGTERM)

    def _on_signal(self, number: signal.Signals) -> None:
        self._received = number
        for handled in self._handled:
            signal.signal(handled, signal.SIG_IGN if handled is signal.SIGUSR1 else signal.SIG_DFL)
        if not self._deferred:
            self.check()
