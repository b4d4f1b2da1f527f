"""Small files that are on the disk when writing them returns, whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

__all__ = ["beside", "replace", "sync", "write_new"]


def write_new(path: Path, content: bytes) -> None:
    """Creates a file and returns when its bytes are on the disk; one that exists is an error."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, content: bytes) -> None:
    """Gives a file new content in one step: readers see the old or the new one, never a part, also after a crash."""
    fresh = beside(path)
    try:
        write_new(fresh, content)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    sync(path.parent)


def beside(path: Path) -> Path:
    """Returns a fresh hidden name in the folder of `path`, to write under before the file gets its own name."""
    return path.with_name(f".{path.name}-{uuid.uuid4().hex}")


def sync(path: Path) -> None:
    """Returns when the bytes of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
