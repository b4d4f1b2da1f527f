"""Whether this process may open as many files as it would like to: some systems allow few (`ulimit -n`)."""

from __future__ import annotations

import resource
from pathlib import Path

__all__ = ["may_open"]

_OPEN_FILES = Path("/proc/self/fd")
_GUESSED_OPEN = 64

_LEFT_TO_OTHERS = 64
"""Descriptors that remain for everything else: sockets, libraries, checkpoints."""


def may_open(files: int) -> bool:
    """Returns whether as many more files may be open at once; raises the limit first if it is allowed to."""
    open_now = sum(1 for _ in _OPEN_FILES.iterdir()) if _OPEN_FILES.is_dir() else _GUESSED_OPEN
    needed = open_now + files + _LEFT_TO_OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return True
    if hard != resource.RLIM_INFINITY and hard < needed:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return True
