"""`metrics.jsonl`: one line a logged step. Lines that a full disk refuses are kept and written later."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from distsae.checked_files import read_regular
from distsae.durable import replace, sync
from distsae.errors import is_lasting

__all__ = ["MetricsFile"]


_MOST_BYTES = 4 << 30


class MetricsFile:
    """The metrics of one run; one process writes them, from any of its threads.

    Args:
        path: path of the file.

    Attributes:
        hopeless: whether the latest line could not be written and others will not be either.
    """

    def __init__(self, path: Path) -> None:
        self.hopeless = False
        self._path = path
        self._unwritten: list[str] = []
        self._warned = False
        self._lock = threading.Lock()

    def keep_until(self, step: int) -> None:
        """Drops the lines of steps after `step`, which a resumed run writes again."""
        if not self._path.is_file():
            return
        kept = [
            line
            for line in read_regular(self._path, _MOST_BYTES).decode(errors="replace").splitlines()
            if 0 <= _step_of(line) <= step
        ]
        replace(self._path, "".join(f"{line}\n" for line in kept).encode())

    def lines(self) -> list[dict[str, Any]]:
        """Returns all whole lines on the disk."""
        if not self._path.is_file():
            return []
        return [json.loads(line) for line in self._path.read_text().splitlines() if _step_of(line) >= 0]

    def append(self, values: dict[str, Any]) -> str:
        """Appends one line.

        If the disk is full, the line is kept in memory and written together with the next one that fits.

        Returns:
            A warning for the user if this is the first line in a row that could not be written; else an empty string.
        """
        with self._lock:
            self._unwritten.append(json.dumps(values) + "\n")
            return self._flush()

    def require_written(self) -> None:
        """Tries once more to write all lines.

        Raises:
            OSError: they cannot be written.
        """
        with self._lock:
            if self._unwritten:
                self._write("".join(self._unwritten).encode())
            self._unwritten.clear()
            self._warned = self.hopeless = False

    def sync(self) -> str:
        """Waits until all lines are on the disk.

        Returns:
            A warning for the user if they could not be brought there; else an empty string.
        """
        with self._lock:
            warning = self._flush()
            try:
                if self._path.is_file():
                    sync(self._path)
            except OSError as error:
                return f"warning: {self._path} may be lost in a crash of the machine ({error})"
            return warning

    def _flush(self) -> str:
        if not self._unwritten:
            return ""
        try:
            self._write("".join(self._unwritten).encode())
        except OSError as error:
            self.hopeless = is_lasting(error)
            if self._warned:
                return ""
            self._warned = True
            return f"warning: {self._path} could not be written ({error}); its lines are kept and written later"
        self._unwritten.clear()
        self._warned = self.hopeless = False
        return ""

    def _write(self, content: bytes) -> None:
        """Appends all of the content, or nothing."""
        with self._path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                written = file.write(content)
                while written < len(content):  # a disk that is nearly full takes only a part at first
                    written += file.write(content[written:])
            except OSError:
                file.truncate(before)
                raise


def _step_of(line: str) -> int:
    """Returns the step of a line; -1 if a kill has cut the line short."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return -1
