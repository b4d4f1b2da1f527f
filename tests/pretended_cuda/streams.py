"""Streams of the pretended device: work runs at once, and what a GPU would run in another order is refused.

Work on two streams is ordered only by events and waits. Here every operation has the number of its stream and its own;
an operation that takes the result of another stream is refused unless something has waited for that. So is one that
takes memory of another stream without `record_stream`, after which the memory could be reused too early.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.pretended_cuda.ledger import LEDGER

__all__ = [
    "PretendedEvent",
    "PretendedStream",
    "Work",
    "current_stream",
    "default_stream",
    "on_stream",
    "ordered",
    "settle_all",
    "work",
]

_numbers = count()
_local = threading.local()


class PretendedStream:
    """Stands for `torch.cuda.Stream`."""

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        self.number = next(_numbers)
        self.done = 0
        """Number of operations so far."""
        self.settled = 0
        """Number of operations that something has waited for."""

    def record_event(self, event: PretendedEvent | None = None) -> PretendedEvent:
        event = event or PretendedEvent()
        event.record(self)
        return event

    def wait_event(self, event: PretendedEvent) -> None:
        event.settle()

    def wait_stream(self, other: PretendedStream) -> None:
        other.settled = other.done

    def synchronize(self) -> None:
        LEDGER.waited("synchronize")
        self.settled = self.done


class PretendedEvent:
    """Stands for `torch.cuda.Event`."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        self._of: tuple[PretendedStream, int] | None = None

    def record(self, stream: PretendedStream | None = None) -> None:
        stream = stream or current_stream()
        self._of = stream, stream.done

    def wait(self, stream: PretendedStream | None = None) -> None:
        self.settle()

    def synchronize(self) -> None:
        LEDGER.waited("synchronize")
        self.settle()

    def query(self) -> bool:
        return True

    def settle(self) -> None:
        if self._of is not None:
            stream, done = self._of
            stream.settled = max(stream.settled, done)


@dataclass(eq=False)
class Work:
    """The operation that made a tensor.

    Args:
        stream: its stream, which the tensor's memory belongs to.
        number: its number on the stream.
        streams: streams that the memory may be used on.
    """

    stream: PretendedStream
    number: int
    streams: set[PretendedStream] = field(default_factory=set)


_DEFAULT = PretendedStream()
_streams = [_DEFAULT]


def current_stream(device: Any = None) -> PretendedStream:
    """Stands for `torch.cuda.current_stream`; each thread begins on the default stream."""
    return getattr(_local, "stream", _DEFAULT)


def default_stream(device: Any = None) -> PretendedStream:
    """Stands for `torch.cuda.default_stream`."""
    return _DEFAULT


@contextmanager
def on_stream(stream: PretendedStream | None) -> Iterator[None]:
    """Stands for `torch.cuda.stream`."""
    before = current_stream()
    if stream is not None:
        _local.stream = stream
        if stream not in _streams:
            _streams.append(stream)
    try:
        yield
    finally:
        _local.stream = before


def settle_all() -> None:
    """Something has waited for all work of all streams."""
    for stream in _streams:
        stream.settled = stream.done


def work() -> Work:
    """Returns the next operation of the current stream."""
    stream = current_stream()
    stream.done += 1
    return Work(stream, stream.done, {stream})


def ordered(made_by: Work, name: str) -> None:
    """Refuses to use a tensor on the current stream before its own has made it, or after its memory may be reused."""
    stream = current_stream()
    if made_by.stream is stream:
        return
    if made_by.number > made_by.stream.settled:
        raise RuntimeError(f"{name} may read a tensor before another stream has made it")
    if stream not in made_by.streams:
        raise RuntimeError(f"{name} reads memory of another stream without `record_stream`")
