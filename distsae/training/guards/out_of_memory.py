"""The error of a rank whose GPU has no room left: one line with what to change, instead of a traceback of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from distsae.errors import CannotContinue

__all__ = ["lack_of_memory_named"]


@contextmanager
def lack_of_memory_named(activity: Callable[[], str]) -> Iterator[None]:
    """Turns torch's error about a full GPU into one line; other errors pass unchanged.

    Args:
        activity: function that returns the current activity of this process.

    Raises:
        CannotContinue: the GPU has no room for what the process is doing.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        facts = ". ".join(" ".join(str(error).split()).split(". ")[:3]).rstrip(".")
        raise CannotContinue(
            f"{activity()}: the GPU must have room for the run; got {facts}; use a wider `mesh.feature`, a smaller "
            "`batch_tokens` or `selection_mb`, or another `optimizer.state` (--dry_run shows the plan), and end other "
            "programs that use the GPU"
        ) from error
