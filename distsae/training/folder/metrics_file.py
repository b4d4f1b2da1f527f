"""`metrics.jsonl`: one line a logged step, whatever the disk does meanwhile."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from distsae.durable import replace, sync

__all__ = ["MetricsFile"]


class MetricsFile:
    """The lines of one run; one process writes them.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[str] = []
        self._told = False
        self._lock = threading.Lock()

    def keep_until(self, step: int) -> None:
        """Drops the lines of steps after `step`, which a resumed run will write again."""
        if not self._path.is_file():
            return
        kept = [line for line in self._path.read_text().splitlines() if 0 <= _step_of(line) <= step]
        replace(self._path, "".join(f"{line}\n" for line in kept).encode())

    def append(self, values: dict[str, Any]) -> str:
        """Appends one line.

        Lines that a full disk does not take are kept, and written with the next one that it does.

        Returns:
            A warning for people when a line was the first that could not be written; else an empty string.
        """
        with self._lock:
            self._waiting.append(json.dumps(values) + "\n")
            return self._flush()

    def sync(self) -> str:
        """Returns when all lines are on the disk, with a warning if they cannot be brought there; from any thread."""
        with self._lock:
            warning = self._flush()
            try:
                if self._path.is_file():
                    sync(self._path)
            except OSError as error:
                return f"warning: {self._path} may not outlast a crash of the machine ({error})"
            return warning

    def _flush(self) -> str:
        if not self._waiting:
            return ""
        try:
            self._write("".join(self._waiting).encode())
        except OSError as error:
            told, self._told = self._told, True
            if told:
                return ""
            return f"warning: {self._path} could not be written ({error}); its lines are kept until they can"
        self._waiting.clear()
        self._told = False
        return ""

    def _write(self, content: bytes) -> None:
        with self._path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                written = file.write(content)
                while written < len(content):  # the last bytes of a disk that is nearly full
                    written += file.write(content[written:])
            except OSError:
                file.truncate(before)
                raise


def _step_of(line: str) -> int:
    """Returns the step of a line; -1 for one that a kill has cut short."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return -1
