"""Listening to signals for the length of a `with` block."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["listening", "stop_signals"]


@contextmanager
def listening(
    numbers: Iterable[signal.Signals], hear: Callable[[signal.Signals], None]
) -> Iterator[list[signal.Signals]]:
    """Calls `hear` on each of the signals until the block ends, in the main thread; any other thread hears nothing.

    Args:
        numbers: signals to listen to.
        hear: gets the signal, between two instructions of the main thread.

    Yields:
        The signals that are really listened to.
    """

    def on(number: int, _: FrameType | None) -> None:
        hear(signal.Signals(number))

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in numbers} if main else {}
    for number in before:
        signal.signal(number, on)
    try:
        yield list(before)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_signals() -> list[signal.Signals]:
    """Returns what asks a training to stop: SIGTERM, SIGUSR1 and, unless it is ignored as in the background, SIGINT.

    SIGUSR1 may be ignored so that the launcher between does not die of it: it is for the training all the same.
    """
    asked = [signal.SIGTERM, signal.SIGUSR1]
    return asked if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else [*asked, signal.SIGINT]
