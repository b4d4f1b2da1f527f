"""Ends a process that is asked to stop while it waits for the others to start.

Python runs its handlers between two steps of Python code. A process that waits inside torch for a main machine that
never answers takes none, so a signal would be heard only when torch gives up. Until a run has begun nothing is lost by
ending at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from distsae.exit_codes import INTERRUPTED, STOPPED
from distsae.progress import say
from distsae.signals import stop_signals

__all__ = ["ended_if_unheard"]

_GRACE = 3.0


@contextmanager
def ended_if_unheard(grace: float = _GRACE) -> Iterator[None]:
    """Ends the process if a signal to stop arrives inside the block and the block does not end by it.

    Outside of the main thread it does nothing, as no signal arrives there.

    Args:
        grace: seconds that the signal's own handler has, so that it can end the block in the usual way.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    ended = threading.Event()
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)  # C code writes the number there, even now
    listener = threading.Thread(target=_listen, args=(reading, ended, grace), daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        ended.set()
        os.close(writing)
        listener.join()
        os.close(reading)


def _listen(reading: int, ended: threading.Event, grace: float) -> None:
    while number := os.read(reading, 1):
        received = signal.Signals(number[0])
        if received in stop_signals() and not ended.wait(grace):
            say(f"stopped by {received.name} while waiting for the other processes; the same command continues")
            os._exit(INTERRUPTED if received is signal.SIGINT else STOPPED)
