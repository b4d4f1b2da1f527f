"""Ending when asked to: a scheduler's SIGTERM, a user's Ctrl-C.

A signal may come anywhere. Where nothing can be left behind it raises at once. Inside `deferred` it is only noted, and
the work ends at its next `check`, with what is on its way to the disk finished. The second signal ends the process
there and then, as if nobody had listened to the first; what it leaves behind is what a kill leaves behind.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import TracebackType

from distsae.errors import DistsaeError
from distsae.progress import say
from distsae.signals import listening

__all__ = ["Stop"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Listens to SIGTERM and SIGINT until the `with` block ends; in the main thread only, for no other can listen.

    A signal that is ignored (of a background job, say) stays ignored. The block is left by `SystemExit(143)` after
    SIGTERM and by `KeyboardInterrupt` after SIGINT, with one line for people.

    Args:
        standing: returns how far the work is, for that line, which does without if it raises.
    """

    def __init__(self, standing: Callable[[], str]) -> None:
        self._standing = standing
        self._asked: signal.Signals | None = None
        self._deferred = False
        self._heard: list[signal.Signals] = []
        self._listening = contextlib.ExitStack()

    def __enter__(self) -> Stop:
        heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._heard = self._listening.enter_context(listening(heeded, self._listen))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()
        if self._asked is not None and isinstance(error, SystemExit | KeyboardInterrupt):
            standing = ""
            with contextlib.suppress(OSError, DistsaeError):  # a store out of reach must not change how this ends
                standing = f": {self._standing()}"
            say(f"stopped by {self._asked.name}{standing}; the same command continues")

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Within this context a signal waits for the next `check`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def check(self) -> None:
        """Ends the work here if a signal has come.

        Raises:
            SystemExit: after SIGTERM, with 143.
            KeyboardInterrupt: after SIGINT.
        """
        if self._asked is signal.SIGINT:
            raise KeyboardInterrupt
        if self._asked is not None:
            raise SystemExit(128 + self._asked)

    def _listen(self, number: signal.Signals) -> None:
        self._asked = number
        for other in self._heard:
            signal.signal(other, signal.SIG_DFL)
        if not self._deferred:
            self.check()
