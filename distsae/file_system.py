"""What the file system of a folder must be able to do, tried on a few bytes before hours of work depend on it.

Network file systems, and mounts of object stores in particular, lack operations that others have. A lack shows only
when an operation is used: a store that nobody can commit to, a checkpoint that cannot get its name.
"""

from __future__ import annotations

import errno
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from distsae.durable import publish, replace, sync
from distsae.errors import WrongInput

__all__ = ["MISSING", "missing_operation", "require_operations"]

MISSING = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENODEV, errno.EXDEV, errno.ENOTTY)
"""What file systems answer to an operation that they do not have."""

_CONTENT = (b"one", b"two")


def require_operations(folder: Path, option: str, *, publishing: bool) -> None:
    """Checks that the file system of a folder has what distsae needs there; leaves nothing behind.

    Args:
        folder: folder that will be written into; it need not exist, and is not created.
        option: option that the user gave it with, for the error.
        publishing: whether several processes will race to create a file, as they do in a store.

    Raises:
        WrongInput: an operation is missing; the text names it.
        OSError: the folder cannot be written, on a full disk for example.
    """
    existing = folder.absolute()
    while not existing.is_dir():
        existing = existing.parent
    if (lack := missing_operation(existing, publishing=publishing)) is not None:
        bucket = ", or the URL of the bucket (s3://, gs://, az://) if this is a mount of one" if publishing else ""
        raise WrongInput(
            f"`{option}` (={folder}) must be on a file system that can {lack}; use a folder on another one{bucket}"
        )


def missing_operation(folder: Path, *, publishing: bool) -> str | None:
    """Returns the first operation that the file system of a folder lacks, in words, with its answer; None if none.

    Args:
        folder: folder that exists.
        publishing: whether creating a file whose name must be free is tried as well.
    """
    tried = folder / f".distsae-tried-{uuid.uuid4().hex}"
    tried.mkdir()
    try:
        operations: dict[str, Callable[[], None]] = {
            "replace a file, and force it to the disk": lambda: _replaced(tried / "file"),
            "rename a folder": lambda: _renamed(tried / "folder"),
        }
        if publishing:
            words = "create a file only if its name is free (by a hard link, or by a rename to a free name)"
            operations[words] = lambda: _published(tried / "published")
        for words, operation in operations.items():
            try:
                operation()
            except OSError as error:
                if error.errno not in MISSING:
                    raise
                return f"{words}; got `{error.strerror}` for {folder}"
        return None
    finally:
        shutil.rmtree(tried, ignore_errors=True)


def _replaced(file: Path) -> None:
    for content in _CONTENT:
        replace(file, content)
    if file.read_bytes() != _CONTENT[-1]:
        raise _broken()


def _renamed(folder: Path) -> None:
    folder.mkdir()
    (folder / "file").write_bytes(b"")
    sync(folder)
    folder.rename(folder.with_name("renamed"))
    if not (folder.parent / "renamed" / "file").is_file():
        raise _broken()


def _published(file: Path) -> None:
    if [publish(file, content) for content in _CONTENT] != [True, False]:
        raise _broken()


def _broken() -> OSError:
    return OSError(errno.ENOSYS, "it does something else")
