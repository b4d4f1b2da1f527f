"""What a program does to the pretended device: launches, waits of the CPU for the device, bytes, collectives."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from torch import Tensor

__all__ = ["LEDGER", "Ledger"]

_PACKAGE = str(Path(__file__).parents[2] / "distsae") + "/"


@dataclass
class Ledger:
    """Counts by operation, and by the line of distsae that asked for it.

    Launches are estimated from the sources of torch's operations (`costs.py`); waits are exact: a wait is a place where
    the CPU cannot go on before the device has done all it was given.

    Args:
        launches: kernels launched, by operation.
        waits: waits of the main thread for the device, by reason.
        waits_aside: waits of other threads, which hold nothing up.
        launched_at: kernels launched, by line.
        waited_at: waits, by line and reason.
        bytes_at: bytes that kernels read and write, by line; gathered rows of a Triton kernel are left out.
        operations: full names of the operations of torch that ran on the device.
        kernels: names of the Triton kernels that ran on the device.
        collectives: `operation dtype shape` of each collective, in order.
        copied: bytes copied between the host and the device: `up` or `down`, from or to `page-locked` memory or
            `ordinary` memory.
        locked: bytes of host memory that are page-locked now, by address.
    """

    launches: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    launched_at: Counter[str] = field(default_factory=Counter)
    waited_at: Counter[str] = field(default_factory=Counter)
    bytes_at: Counter[str] = field(default_factory=Counter)
    operations: set[str] = field(default_factory=set)
    kernels: set[str] = field(default_factory=set)
    collectives: list[str] = field(default_factory=list)
    waits_aside: Counter[str] = field(default_factory=Counter)
    copied: Counter[str] = field(default_factory=Counter)
    locked: dict[int, int] = field(default_factory=dict)
    _closed_in: set[int] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Counts nothing of this thread within this block: it stands for what is counted as a whole."""
        thread, before = threading.get_ident(), set(self._closed_in)
        self._closed_in.add(thread)
        try:
            yield
        finally:
            if thread not in before:
                self._closed_in.discard(thread)

    def launched(self, name: str, number: int, traffic: int) -> None:
        """Adds launches of an operation, and the bytes that they move."""
        if threading.get_ident() in self._closed_in:
            return
        place = _place()
        with self._lock:
            self.launches[name] += number
            self.launched_at[place] += number
            self.bytes_at[place] += traffic

    def waited(self, reason: str, number: int = 1) -> None:
        """Adds waits of the CPU for the device."""
        if threading.get_ident() in self._closed_in:
            return
        if threading.current_thread() is not threading.main_thread():
            with self._lock:
                self.waits_aside[f"{_place()} {reason}"] += number
            return
        self.waits[reason] += number
        self.waited_at[f"{_place()} {reason}"] += number

    def copied_bytes(self, down: bool, host: Tensor, size: int) -> None:
        """Adds a copy between the host and the device."""
        first = host.data_ptr()
        locked = any(begin <= first < begin + length for begin, length in [*self.locked.items()])
        with self._lock:
            self.copied[f"{'down' if down else 'up'}, {'page-locked' if locked else 'ordinary'}"] += size

    def totals(self) -> tuple[int, int, int]:
        """Returns launches, waits and bytes."""
        return self.launches.total(), self.waits.total(), self.bytes_at.total()

    def clear(self) -> None:
        """Starts all counts anew; operations and kernels that have been seen stay."""
        counted = (self.launches, self.waits, self.launched_at, self.waited_at, self.bytes_at)
        for counts in (*counted, self.waits_aside, self.copied):
            counts.clear()
        self.collectives.clear()


LEDGER = Ledger()
"""The ledger of this process."""


def _place() -> str:
    """Returns the innermost line of distsae that is being executed, as `folder/file.py:line`."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(_PACKAGE):
            return f"{frame.f_code.co_filename.removeprefix(_PACKAGE)}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
