"""Bytes that stay: digests, and writes that are on the disk when they return."""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FileRecord", "compare", "record_of", "replace_text", "sync_folder", "write_durably"]


@dataclass(frozen=True)
class FileRecord:
    """What a file must be: its size in bytes and its SHA-256 in hex."""

    bytes: int
    sha256: str


def record_of(path: Path) -> FileRecord:
    """Reads the whole file and returns what it is."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(file.tell(), digest)


def compare(path: Path, expected: FileRecord) -> str:
    """Reads the whole file and says in what it differs from `expected`, naming it; an empty string if in nothing."""
    if not path.is_file():
        return f"{path} is missing"
    if (size := path.stat().st_size) != expected.bytes:
        return f"{path} has {size} bytes, its manifest says {expected.bytes}"
    if record_of(path).sha256 != expected.sha256:
        return f"{path} is damaged: its SHA-256 is not the one in its manifest"
    return ""


def write_durably(path: Path, content: bytes) -> None:
    """Creates a file and returns when its bytes are on the disk; one that exists is an error."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Returns when the names in `folder` are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_text(path: Path, text: str) -> None:
    """Replaces a small text file in one step: readers see the old text or the new one, never a part."""
    fresh = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    write_durably(fresh, text.encode())
    fresh.replace(path)
    sync_folder(path.parent)
