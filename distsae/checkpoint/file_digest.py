"""What a file must be, and whether it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FileDigest", "compare", "compare_size", "digest_of"]

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileDigest:
    """What a file must be: its size in bytes and its SHA-256 in hex."""

    bytes: int
    sha256: str


def digest_of(path: Path, on_read: Callable[[int], None] = lambda size: None) -> FileDigest:
    """Reads the whole file and returns what it is.

    Args:
        path: the file.
        on_read: called after each block with its bytes; what it raises ends the reading.
    """
    digest = hashlib.sha256()
    size = 0
    block = memoryview(bytearray(_BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(block[:count])
            size += count
            on_read(count)
    return FileDigest(size, digest.hexdigest())


def compare_size(path: Path, expected: FileDigest) -> str:
    """Says whether the file is missing or has another size than `expected`, naming it; an empty string if neither."""
    if not path.is_file():
        return f"{path} is missing"
    if (size := path.stat().st_size) != expected.bytes:
        return f"{path} has {size} bytes, its manifest says {expected.bytes}"
    return ""


def compare(path: Path, expected: FileDigest, on_read: Callable[[int], None] = lambda size: None) -> str:
    """Reads the whole file and says in what it differs from `expected`, naming it; an empty string if in nothing.

    Args:
        path: the file.
        expected: what it must be.
        on_read: called after each block with its bytes; a file of another size is not read.
    """
    if problem := compare_size(path, expected):
        return problem
    if digest_of(path, on_read).sha256 != expected.sha256:
        return f"{path} is damaged: its SHA-256 is not the one in its manifest"
    return ""
