"""The errors of torch.distributed as one clear line each: a rank that is lost, or communication that cannot work."""

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

_LOST = re.compile(
    r"connect|closed|reset|refused|broken pipe|unreachable|no route|timed[ -]?out|timeout|aborted|remote process",
    re.IGNORECASE,
)
"""Words of errors about a rank that does not answer. All other errors have a cause on this machine."""

_ADVICE = {
    "duplicate gpu": "start one process for each GPU (`--num_processes`), and show each of them (CUDA_VISIBLE_DEVICES)",
    "out of memory": "NCCL needs some memory of the GPU too: use a wider `mesh.feature`, or a smaller `batch_tokens` "
    "or `selection_mb` (--dry_run shows the plan)",
    "shared memory": "NCCL needs room in /dev/shm: give the container more (Docker's shm-size)",
    "/dev/shm": "NCCL needs room in /dev/shm: give the container more (Docker's shm-size)",
    "driver version": "update the driver, or install a torch that was built for it",
}
"""What to do about causes that NCCL names, by words of its text."""


@contextmanager
def lost_ranks_named(activity: Callable[[], str]) -> Iterator[None]:
    """Turns torch.distributed's errors into one line; other errors pass unchanged.

    Args:
        activity: function that returns the current activity of this process.

    Raises:
        CannotContinue: a rank was lost or did not answer in time, or the ranks cannot communicate.
    """
    try:
        yield
    except dist.DistError as error:
        raise CannotContinue(_sentence(activity(), str(error))) from error
    except RuntimeError as error:
        text = str(error)
        if _GLOO_PREFIX.match(text) is None and "connectFullMesh" not in text:
            raise
        raise CannotContinue(_sentence(activity(), _GLOO_PREFIX.sub("", text))) from error


def _sentence(activity: str, text: str) -> str:
    if "EADDRINUSE" in text or "address already in use" in text.lower():
        return (
            f"{activity}: the port {os.environ.get('MASTER_PORT', '')} at which the ranks meet must be free; got one "
            "that another process uses; end that process, or give another --main_process_port on every machine"
        )
    if "connectFullMesh" in text:
        return (
            f"{activity}: every rank must be able to connect to every other one; got {_first_sentence(text)}; set "
            f"GLOO_SOCKET_IFNAME (={os.environ.get('GLOO_SOCKET_IFNAME', '')}) on each machine to its network "
            "interface that the other machines can reach"
        )
    _, _, cause = text.partition("Last error:")
    reason = " ".join(cause.split()) or _first_sentence(text)
    if _LOST.search(cause.strip() or text):
        return (
            f"{activity}: lost connection to another rank ({reason}): that rank was killed, failed or hangs; look for "
            "its own message above; start the same command again to resume from the newest checkpoint"
        )
    advice = [words for cause, words in _ADVICE.items() if cause in reason.lower()]
    return (
        f"{activity}: the ranks must be able to communicate; got {reason}; "
        f"{advice[0] if advice else 'start again with NCCL_DEBUG=WARN in the environment to see what NCCL found'}"
    )


def _first_sentence(text: str) -> str:
    return text.strip().split("\n")[0].split(". ")[0].rstrip(".")
