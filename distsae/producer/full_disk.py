"""Turns the error of a full disk into one line that says where to make room."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distsae.disk_room import way_out
from distsae.errors import CannotContinue
from distsae.store.location import Location

__all__ = ["one_line_if_disk_full"]


@contextmanager
def one_line_if_disk_full(root: Location) -> Iterator[None]:
    """Within this context, a full disk raises an error of one line; no committed unit is lost.

    Args:
        root: the store that is being written.

    Raises:
        CannotContinue: the disk on which the store is written is full, or a quota is used up.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        staging = "" if isinstance(root, Path) else f" under {tempfile.gettempdir()}, from where it is uploaded"
        advice = way_out(error, root if isinstance(root, Path) else Path(tempfile.gettempdir()))
        raise CannotContinue(
            f"`out` (={root}) must have room for the store{staging}; got a full disk; {advice}; then run it again"
        ) from error
