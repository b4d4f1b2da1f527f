"""Progress of long work: a bar on a terminal, otherwise a plain line from time to time; only rank 0 prints.

What cannot be printed is dropped: a reader that has gone must not end the work.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from types import TracebackType

from tqdm import tqdm

from distsae.printable import printable

__all__ = ["Progress", "is_main_process", "say", "speak"]


def is_main_process() -> bool:
    """Returns whether this process prints for the job: whether it is rank 0 or the only process."""
    return (os.environ.get("RANK") or "0").strip() == "0"


def say(message: str) -> None:
    """Prints one line for the user on stderr, from the main process only, without breaking a progress bar."""
    if is_main_process():
        speak(message)


def speak(message: str) -> None:
    """Prints one line on stderr at once, from any process, if that is possible."""
    if sys.stderr is None:  # it was closed when the process started; tqdm would print to stdout
        return
    with contextlib.suppress(OSError, ValueError):  # ValueError: the stream has been closed, or lacks a character
        tqdm.write(printable(message), file=sys.stderr)
        sys.stderr.flush()


class Progress:
    """Counts work towards `total` and shows rate, time left and a few named values.

    Args:
        total: amount of work, counted in `unit`; None if it is not known beforehand.
        label: name of the work.
        unit: what the work is counted in, for example `rows` or `steps`.
        done: amount that an earlier process has finished.
        every: seconds between plain lines if stderr is not a terminal.
    """

    def __init__(self, total: int | None, label: str, unit: str, done: int = 0, every: float = 10.0) -> None:
        self.total = total
        self.label = label
        self.unit = unit
        self.every = every
        self._done = self._first = done
        self._values: dict[str, float | str] = {}
        self._prints = is_main_process()
        self._bar = self._prints and sys.stderr is not None and sys.stderr.isatty()
        self._tqdm = tqdm(
            total=total,
            initial=done,
            desc=label,
            unit=f" {unit}",
            disable=not self._bar,
            unit_scale=True,
            leave=True,
        )
        self._started = self._last = time.monotonic()

    def advance(self, amount: int = 1, **values: float | str) -> None:
        """Adds finished work; `values` are shown beside the bar until they are replaced."""
        self._done += amount
        self._values |= values
        if self._bar:
            self._tqdm.set_postfix_str(_formatted(self._values), refresh=False)
            self._tqdm.update(amount)
        elif self._prints and (time.monotonic() - self._last >= self.every or self._is_complete()):
            self._last = time.monotonic()
            speak(f"{self._plain_line()} {_formatted(self._values)}".rstrip())

    def close(self) -> None:
        """Ends the bar and leaves its last state on the screen."""
        self._tqdm.close()

    def _is_complete(self) -> bool:
        return self.total is not None and self._done >= self.total

    def _plain_line(self) -> str:
        rate = (self._done - self._first) / max(self._last - self._started, 1e-9)
        if self.total is None:
            return f"{self.label}: {self._done:,} {self.unit}, {rate:,.0f} {self.unit}/s"
        left = max(self.total - self._done, 0) / max(rate, 1e-9)
        share = self._done / max(self.total, 1)
        return (
            f"{self.label}: {self._done:,}/{self.total:,} {self.unit} ({share:.0%}), "
            f"{rate:,.0f} {self.unit}/s, {left:.0f} s left"
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _formatted(values: dict[str, float | str]) -> str:
    return " ".join(
        f"{name} {value if isinstance(value, str) else format(value, '.4g')}" for name, value in values.items()
    )
