"""What a program does to the pretended device: launches, waits of the CPU for the device, bytes, collectives."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

__all__ = ["LEDGER", "Ledger"]

_PACKAGE = str(Path(__file__).parents[2] / "distsae") + "/"


@dataclass
class Ledger:
    """Counts by operation, and by the line of distsae that asked for it.

    Launches are estimated from the sources of torch's operations (`costs.py`); waits are exact: a wait is a place where
    the CPU cannot go on before the device has done all it was given.

    Args:
        launches: kernels launched, by operation.
        waits: waits of the CPU for the device, by reason.
        launched_at: kernels launched, by line.
        waited_at: waits, by line and reason.
        bytes_at: bytes that kernels read and write, by line; gathered rows of a Triton kernel are left out.
        operations: full names of the operations of torch that ran on the device.
        kernels: names of the Triton kernels that ran on the device.
        collectives: `operation dtype shape` of each collective, in order.
    """

    launches: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    launched_at: Counter[str] = field(default_factory=Counter)
    waited_at: Counter[str] = field(default_factory=Counter)
    bytes_at: Counter[str] = field(default_factory=Counter)
    operations: set[str] = field(default_factory=set)
    kernels: set[str] = field(default_factory=set)
    collectives: list[str] = field(default_factory=list)
    _open: bool = True

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Counts nothing within this block: it stands for what is counted as a whole."""
        before, self._open = self._open, False
        try:
            yield
        finally:
            self._open = before

    def launched(self, name: str, number: int, traffic: int) -> None:
        """Adds launches of an operation, and the bytes that they move."""
        if not self._open:
            return
        place = _place()
        self.launches[name] += number
        self.launched_at[place] += number
        self.bytes_at[place] += traffic

    def waited(self, reason: str, number: int = 1) -> None:
        """Adds waits of the CPU for the device."""
        if not self._open:
            return
        self.waits[reason] += number
        self.waited_at[f"{_place()} {reason}"] += number

    def totals(self) -> tuple[int, int, int]:
        """Returns launches, waits and bytes."""
        return self.launches.total(), self.waits.total(), self.bytes_at.total()

    def clear(self) -> None:
        """Starts all counts anew; operations and kernels that have been seen stay."""
        for counts in (self.launches, self.waits, self.launched_at, self.waited_at, self.bytes_at):
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
