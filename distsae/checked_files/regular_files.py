"""Opens regular files and nothing else: reading a pipe never ends without a writer, and a device may be endless.

A file is opened first and looked at afterwards, so that it cannot be exchanged in between.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from distsae.errors import DistsaeError, TornData

__all__ = ["open_regular", "read_regular", "refuse_links"]


def open_regular(path: Path, inside: Path | None = None, error: type[DistsaeError] = TornData) -> int:
    """Opens a file for reading and returns its descriptor, which the caller closes.

    Args:
        path: file to open.
        inside: folder that contains it, below which no part of the path may be a symbolic link; None if links are
            followed, because the user gave the path.
        error: class of the error.

    Raises:
        FileNotFoundError: there is no such file.
        DistsaeError: it is not a regular file, or it is reached through a link; of class `error`.
    """
    if inside is not None:
        refuse_links(path.parent, inside, error)
    # Without O_NONBLOCK, opening a pipe waits for a writer.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if inside is None else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except ValueError:  # a name with a null byte, which no file has
        raise FileNotFoundError(errno.ENOENT, "no such file", ascii(str(path))) from None
    except OSError as failed:
        if failed.errno == errno.ELOOP:
            raise _link(path, error) from None
        if failed.errno == errno.ENXIO:  # a socket
            raise _not_regular(path, error) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path, error)
    return descriptor


def read_regular(path: Path, most: int, inside: Path | None = None, error: type[DistsaeError] = TornData) -> bytes:
    """Returns the content of a file that has at most `most` bytes; a larger one is not read.

    Args:
        path: file to read.
        most: largest size in bytes.
        inside: as for `open_regular`.
        error: class of the error.

    Raises:
        FileNotFoundError: there is no such file.
        DistsaeError: it is larger, or not a regular file, or reached through a link; of class `error`.
    """
    with os.fdopen(open_regular(path, inside, error), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise error(f"{path} must have at most {most:,} bytes to be what its name says; got {size:,}")
        content = file.read(most + 1)
    if len(content) > most:
        raise error(f"{path} must have at most {most:,} bytes to be what its name says; got more")
    return content


def refuse_links(folder: Path, inside: Path, error: type[DistsaeError] = TornData) -> None:
    """Checks that no folder on the way from `inside`, itself excluded, to `folder` is a symbolic link.

    Raises:
        DistsaeError: one is; of class `error`.
    """
    while folder != inside:
        if folder.is_symlink():
            raise _link(folder, error)
        if folder == folder.parent:
            return
        folder = folder.parent


def _link(path: Path, error: type[DistsaeError]) -> DistsaeError:
    return error(f"{path} is a symbolic link, which may lead anywhere; copy the files themselves, as `cp -rL` does")


def _not_regular(path: Path, error: type[DistsaeError]) -> DistsaeError:
    return error(f"{path} is not a regular file; a folder, pipe, socket or device is never read as one")
