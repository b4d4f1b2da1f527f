"""The size and SHA-256 of a file, and how a file differs from a recorded size and SHA-256."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from distsae.checked_files import Between, open_regular
from distsae.errors import TornData

__all__ = ["FileDigest", "compare", "compare_size", "digest_of"]

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileDigest:
    """The size of a file in bytes and its SHA-256 in hex."""

    bytes: Annotated[int, Between(0)]
    sha256: str


def digest_of(path: Path, on_read: Callable[[int], None] = lambda size: None) -> FileDigest:
    """Reads a whole file and returns its size and SHA-256.

    Args:
        path: file to read.
        on_read: called after each block with its size in bytes; an exception that it raises ends the reading.
    """
    digest = hashlib.sha256()
    size = 0
    block = memoryview(bytearray(_BLOCK_BYTES))
    with os.fdopen(open_regular(path, path.parent), "rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(block[:count])
            size += count
            on_read(count)
    return FileDigest(size, digest.hexdigest())


def compare_size(path: Path, expected: FileDigest) -> str:
    """Returns a line that names the file if it is missing or has another size, and an empty string otherwise."""
    try:
        descriptor = open_regular(path, path.parent)
    except FileNotFoundError:
        return f"{path} is missing"
    except TornData as error:
        return str(error)
    size = os.fstat(descriptor).st_size
    os.close(descriptor)
    if size != expected.bytes:
        return f"{path} has {size} bytes, its manifest says {expected.bytes}"
    return ""


def compare(path: Path, expected: FileDigest, on_read: Callable[[int], None] = lambda size: None) -> str:
    """Reads a whole file and returns a line that names it if it is not as expected, and an empty string otherwise.

    A file that is missing or has another size is not read.

    Args:
        path: file to compare.
        expected: size and SHA-256 that the file must have.
        on_read: called after each block with its size in bytes.
    """
    if problem := compare_size(path, expected):
        return problem
    if digest_of(path, on_read).sha256 != expected.sha256:
        return f"{path} is damaged: its SHA-256 is not the one in its manifest"
    return ""
