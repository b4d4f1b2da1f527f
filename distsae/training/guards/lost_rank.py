"""A rank that is gone, as the others see it: one clear line instead of their tracebacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch.distributed as dist

from distsae.errors import CannotContinue

__all__ = ["lost_ranks_named"]

_PLACE = re.compile(r"^\[\S*gloo/\S*\] ")
"""How gloo begins its errors, which are plain RuntimeErrors: with the line of its source."""


@contextmanager
def lost_ranks_named(doing: Callable[[], str]) -> Iterator[None]:
    """Turns what torch.distributed raises when a rank is gone into one line; other errors are left as they are.

    Args:
        doing: returns what this process is doing.

    Raises:
        CannotContinue: a rank was lost, or did not answer in time.
    """
    try:
        yield
    except dist.DistError as error:
        raise CannotContinue(_sentence(doing(), str(error))) from error
    except RuntimeError as error:
        if _PLACE.match(str(error)) is None:
            raise
        raise CannotContinue(_sentence(doing(), _PLACE.sub("", str(error)))) from error


def _sentence(doing: str, text: str) -> str:
    reason = text.strip().split("\n")[0].split(". ")[0].rstrip(".")
    return (
        f"{doing}: lost connection to another rank ({reason}): it was killed or failed, or it hangs; its own message "
        "comes before this; start the same command again to go on from the newest checkpoint"
    )
