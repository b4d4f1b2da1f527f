"""Files that survive a crash: each is on the disk when its writing returns, and holds all of its content or none.

A reader never sees a half-written file, because content is written under a temporary name in the same folder first.
`replace` and `replacing` then rename it over what was there before; `publish` gives it a name that must be free.
`write_new` alone writes under the final name: it is for names that no reader looks at yet.
"""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["as_new_files_are", "beside", "publish", "replace", "replacing", "sync", "write_new"]


def write_new(path: Path, content: bytes) -> None:
    """Creates a file and returns when its content is on the disk.

    Raises:
        FileExistsError: the file exists.
    """
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def publish(path: Path, content: bytes) -> bool:
    """Creates a file with all of its content in one step, unless it exists.

    Of any number of processes that publish different content under one name, exactly one succeeds.

    Returns:
        Whether the file now has `content`, either because this call created it or because an equal one existed: a
        network file system may repeat a request whose answer was lost, and then finds the file that it has created.
    """
    temporary = beside(path)
    try:
        write_new(temporary, content)
        os.link(temporary, path)
    except FileExistsError:
        return path.is_file() and path.read_bytes() == content
    finally:
        temporary.unlink(missing_ok=True)
        sync(path.parent)
    return True


def replace(path: Path, content: bytes) -> None:
    """Gives a file new content in one step: readers see the old or the new content, even after a crash."""
    with replacing(path) as temporary:
        write_new(temporary, content)


@contextmanager
def replacing(path: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Yields a name to write a file under; when the block ends, that file replaces `path` in one step.

    When the block or the replacement fails, the temporary file is removed and `path` keeps its old content.

    Args:
        path: file to create or replace; its folder must exist.
        temporary: name to write under, in the folder of `path`; by default a fresh hidden one. With a name that stays
            the same, a large file that a killed process left there is overwritten the next time instead of kept.
    """
    temporary = beside(path) if temporary is None else temporary
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def as_new_files_are(path: Path) -> None:
    """Gives a file the mode that the umask and its folder give to new files.

    Libraries that write by way of a temporary file leave the mode of one, with which colleagues cannot read it.
    """
    example = beside(path)
    example.touch()
    mode = example.stat().st_mode
    example.unlink()
    with contextlib.suppress(PermissionError):  # a file system without modes
        path.chmod(stat.S_IMODE(mode))


def beside(path: Path) -> Path:
    """Returns a fresh hidden name in the folder of `path`, to write under before the file gets its own name."""
    return path.with_name(f".{path.name}-{uuid.uuid4().hex}")


def sync(path: Path) -> None:
    """Returns when the content of a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
