"""The error that the other ranks report when a rank is lost: one clear line instead of a traceback of torch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch.distributed as dist

from distsae.errors import CannotContinue

__all__ = ["lost_ranks_named"]

_GLOO_PREFIX = re.compile(r"^\[\S*gloo/\S*\] ")
"""Source line with which gloo begins the text of its errors; their class is a plain RuntimeError."""


@contextmanager
def lost_ranks_named(activity: Callable[[], str]) -> Iterator[None]:
    """Turns torch.distributed's errors about a lost rank into one line; other errors pass unchanged.

    Args:
        activity: function that returns the current activity of this process.

    Raises:
        CannotContinue: a rank was lost, or did not answer in time.
    """
    try:
        yield
    except dist.DistError as error:
        raise CannotContinue(_sentence(activity(), str(error))) from error
    except RuntimeError as error:
        if _GLOO_PREFIX.match(str(error)) is None:
            raise
        raise CannotContinue(_sentence(activity(), _GLOO_PREFIX.sub("", str(error)))) from error


def _sentence(activity: str, text: str) -> str:
    if "EADDRINUSE" in text or "address already in use" in text.lower():
        return (
            f"{activity}: the port {os.environ.get('MASTER_PORT', '')} at which the ranks meet must be free; got one "
            "that another process uses; end that process, or give another --main_process_port on every machine"
        )
    reason = text.strip().split("\n")[0].split(". ")[0].rstrip(".")
    return (
        f"{activity}: lost connection to another rank ({reason}): that rank was killed, failed or hangs; look for its "
        "own message above; start the same command again to resume from the newest checkpoint"
    )
