"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere, silence on other ranks."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

from tqdm import tqdm

__all__ = ["Progress", "is_main_process", "say"]


def is_main_process() -> bool:
    """Says whether this process speaks for the job: rank 0, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def say(message: str) -> None:
    """Prints one line for people, from the main process only, without tearing a progress bar."""
    if is_main_process():
        tqdm.write(message, file=sys.stderr)


class Progress:
    """Counts work towards `total` and shows rate, time left and a few named values.

    Args:
        total: amount of work, in `unit`s; None when nobody knows it beforehand.
        label: what is being done.
        unit: name of one piece of work (`rows`, `steps`).
        done: work that an earlier process has already finished.
        every: seconds between plain lines when stderr is not a terminal.
    """

    def __init__(self, total: int | None, label: str, unit: str, done: int = 0, every: float = 10.0) -> None:
        self.total = total
        self.label = label
        self.unit = unit
        self.every = every
        self._done = self._first = done
        self._values: dict[str, float | str] = {}
        self._speaks = is_main_process()
        self._bar = sys.stderr.isatty() and self._speaks
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
        """Adds `amount` of finished work; `values` are shown beside the bar from now on."""
        self._done += amount
        self._values |= values
        if self._bar:
            self._tqdm.set_postfix_str(_words(self._values), refresh=False)
            self._tqdm.update(amount)
        elif self._speaks and (time.monotonic() - self._last >= self.every or self._is_complete()):
            self._last = time.monotonic()
            print(f"{self._state()} {_words(self._values)}".rstrip(), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves the last state on the screen."""
        self._tqdm.close()

    def _is_complete(self) -> bool:
        return self.total is not None and self._done >= self.total

    def _state(self) -> str:
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


def _words(values: dict[str, float | str]) -> str:
    return " ".join(f"{name} {v if isinstance(v, str) else format(v, '.4g')}" for name, v in values.items())
