"""A full disk, in words."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distsae.errors import CannotContinue
from distsae.store.location import Location

__all__ = ["full_disk_named"]


@contextmanager
def full_disk_named(root: Location) -> Iterator[None]:
    """Within this context a full disk is an error of one line; nothing that is committed is lost by it.

    Raises:
        CannotContinue: the disk that the store at `root` is made on is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        local = "" if isinstance(root, Path) else f" under {tempfile.gettempdir()}, from where it is uploaded"
        raise CannotContinue(
            f"`out` (={root}) must have room for the store{local}; got a full disk; make room and run it again"
        ) from error
