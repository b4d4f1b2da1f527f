"""Files that survive a crash: each is on the disk when its writing returns, and holds all of its content or none.

A reader never sees a half-written file, because content is written under a temporary name in the same folder first.
`replace` and `replacing` then rename it over what was there before; `publish` gives it a name that must be free.
`write_new` alone writes under the final name: it is for names that no reader looks at yet.

Not every file system can do all of this. Two operations have a fallback that is as safe: the hard link with which
content is published, and forcing a list of names to the disk. `distsae.file_system` finds out what else is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["as_new_files_are", "beside", "publish", "replace", "replacing", "sync", "write_new"]

_NO_LINKS = (errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS)
"""What file systems without hard links answer; a folder in which this process may not write gives EACCES."""

_NO_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)
"""What file systems answer that cannot force a list of names to the disk."""

_HERE = -100
_MUST_BE_FREE = 1


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

    Of any number of processes that publish different content under one name, exactly one succeeds. The name comes
    from a hard link, or from a rename that fails if the name exists. Both are one request to the file system, which
    decides the race itself. A file system with neither is refused. Whatever else could be done there (a lock file; a
    look, then a rename) loses content when a process is suspended between two of its requests.

    Returns:
        Whether the file now has `content`, either because this call created it or because an equal one existed: a
        network file system may repeat a request whose answer was lost, and then finds the file that it has created.

    Raises:
        OSError: the file system has neither hard links nor renames to a free name, or the content cannot be written.
    """
    temporary = beside(path)
    try:
        write_new(temporary, content)
        _name_exclusively(temporary, path)
    except FileExistsError:
        return path.is_file() and path.read_bytes() == content
    finally:
        temporary.unlink(missing_ok=True)
        sync(path.parent)
    return True


def _name_exclusively(temporary: Path, path: Path) -> None:
    """Gives a file a name that must be free, in one step; its temporary name may stay.

    Raises:
        FileExistsError: the name is taken.
    """
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS or not _rename_to_free_name(temporary, path):
            raise


def _rename_to_free_name(old: Path, new: Path) -> bool:
    """Renames a file if the new name is free; returns whether this file system, and this machine, can do so.

    Raises:
        FileExistsError: the name is taken.
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2  # of Linux; Python has only the rename that replaces
    except (AttributeError, OSError):
        return False
    if rename(_HERE, os.fsencode(old), _HERE, os.fsencode(new), _MUST_BE_FREE) == 0:
        return True
    if ctypes.get_errno() == errno.EEXIST:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
    return False


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
    """Returns when the content of a file, or the list of names in a folder, is on the disk.

    Where a file system cannot force a list of names to the disk, it writes the list itself, and nothing is left to do.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise
    finally:
        os.close(descriptor)
