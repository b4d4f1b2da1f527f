"""Signal handlers that are installed for the length of a `with` block."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["listening", "stop_signals"]


@contextmanager
def listening(
    numbers: Iterable[signal.Signals], handler: Callable[[signal.Signals], None]
) -> Iterator[list[signal.Signals]]:
    """Calls `handler` for each of the signals until the block ends; then the handlers from before are back.

    Python delivers signals to the main thread alone, so in any other thread this does nothing.

    Args:
        numbers: signals to handle.
        handler: called with the signal, between two instructions of the main thread; may raise.

    Yields:
        The signals that are handled: all of `numbers` in the main thread, none in another thread.
    """

    def on_signal(number: int, _: FrameType | None) -> None:
        handler(signal.Signals(number))

    in_main_thread = threading.current_thread() is threading.main_thread()
    previous = {number: signal.getsignal(number) for number in numbers} if in_main_thread else {}
    for number in previous:
        signal.signal(number, on_signal)
    try:
        yield list(previous)
    finally:
        for number, old_handler in previous.items():
            signal.signal(number, old_handler)


def stop_signals() -> list[signal.Signals]:
    """Returns the signals that ask a training to stop: SIGTERM, SIGUSR1, SIGHUP (a closed terminal) and SIGINT.

    SIGINT and SIGHUP are left out where they are ignored, as in a job that a shell runs in the background or under
    nohup. SIGUSR1 is included even where it is ignored: a launcher ignores it in order to survive, but it is meant for
    the training.
    """
    heard = [number for number in (signal.SIGHUP, signal.SIGINT) if signal.getsignal(number) is not signal.SIG_IGN]
    return [signal.SIGTERM, signal.SIGUSR1, *heard]
