"""What to do about a write that failed: a full disk, a used-up quota, a limit of the shell and a lost folder differ."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from distsae.errors import is_lasting

__all__ = ["way_out"]


def way_out(error: BaseException, folder: Path) -> str:
    """Returns what to do about a failed write, as the end of an error's text.

    Args:
        error: error of the write, or one that it has caused.
        folder: folder that was written into; it need not exist.
    """
    number = _number(error)
    if number == errno.EDQUOT:
        return "your quota on that disk is used up: remove files of yours, or have it raised"
    if number == errno.EFBIG:
        return "the largest file that may be written is smaller: raise `ulimit -f`"
    if number == errno.ENOSPC:
        return _room(folder)
    if number is not None and is_lasting(OSError(number, "")):
        return "make the folder writable again"
    return "check the disk"


def _room(folder: Path) -> str:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        disk = os.statvfs(folder)
    except OSError:
        return "make room"
    if disk.f_files and not disk.f_favail:
        return "the disk holds as many files as it can: remove some"
    return f"make room: {disk.f_bavail * disk.f_frsize:,} bytes are free now, without what was given up"


def _number(error: BaseException | None) -> int | None:
    """Returns the error number of the first cause that has one; safetensors gives it in its text only."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        if found := re.search(r"\(os error ([0-9]+)\)", str(error)):
            return int(found[1])
        error = error.__cause__ or error.__context__
    return None
