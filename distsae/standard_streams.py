"""Standard output and error that never end a command: what is said may be lost, work may not.

A log file on a full disk, a pipe whose reader has gone, a terminal that was closed or a stream that was never open
would raise wherever a line is printed: in a library, in a warning, or when Python ends. `guard_standard_streams` puts
streams in their place that drop what cannot be written. A command whose product is its output prints it with `show`,
which reports that a part of it is missing.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import Any, TextIO

from distsae.printable import printable

__all__ = ["OutputLost", "guard_standard_streams", "show"]


class OutputLost(Exception):
    """The product of a command could not be written on standard output.

    Args:
        reason: error of the operating system.
    """

    def __init__(self, reason: OSError) -> None:
        super().__init__(f"standard output cannot be written: {reason.strerror or reason}")
        self.reader_has_gone = isinstance(reason, BrokenPipeError)


class _Guarded(io.RawIOBase):
    """A file descriptor to write to; what it does not take is dropped, and the first error is kept.

    Args:
        descriptor: number of the descriptor, 1 or 2.
        name: name of the stream.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self.failure: OSError | None = None
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:  # noqa: ANN401  (any buffer)
        while True:
            try:
                return os.write(self._descriptor, content)
            except BlockingIOError:  # another program has made the terminal or pipe non-blocking
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.failure = self.failure or error
                return len(content)


def guard_standard_streams() -> None:
    """Makes `sys.stdout` and `sys.stderr` streams that never raise, and opens standard streams that are closed.

    A descriptor that is closed when a process starts would be that of the first file it opens, and whatever a library
    writes to standard error would end up in there. Streams that were put in place by others, such as a notebook or a
    test, stay.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            os.set_inheritable(opened, True)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _guarded(sys.stdout, 1, "<stdout>")
    if sys.stderr is sys.__stderr__:
        sys.stderr = _guarded(sys.stderr, 2, "<stderr>")


def _guarded(stream: TextIO | None, descriptor: int, name: str) -> TextIO:
    by_line = True
    if isinstance(stream, io.TextIOWrapper):
        by_line = stream.line_buffering or stream.write_through
        with contextlib.suppress(OSError):
            stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Guarded(descriptor, name)),
        encoding=stream.encoding if stream is not None else "utf-8",
        errors="backslashreplace",
        line_buffering=by_line,
    )


def show(*lines: str) -> None:
    """Prints lines that are the product of a command on standard output.

    Raises:
        OutputLost: a line cannot be written: its reader, such as `head`, has ended, or the disk is full.
    """
    try:
        print(*map(printable, lines), sep="\n", flush=True)
    except OSError as error:  # of a stream that is not guarded
        raise OutputLost(error) from error
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Guarded) and raw.failure is not None:
        raise OutputLost(raw.failure)
