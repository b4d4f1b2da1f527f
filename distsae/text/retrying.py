"""Reads on after a failure that passes: a lost connection, a server that asks for patience, a file system that hangs.

Hours of tokenising depend on a source that answers all the time. When it does not, it is opened again at the item that
is next, so that nothing is read twice and nothing is left out.
"""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from distsae.errors import CannotContinue, DistsaeError
from distsae.progress import say

__all__ = ["passes", "retrying"]

Item = TypeVar("Item")

_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Seconds to wait before each new try, until an item comes."""

_PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.EAGAIN,
    errno.ETIMEDOUT,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENOTCONN,
    getattr(errno, "EREMOTEIO", errno.EIO),
}

_PASSING_STATUS = (408, 425, 429)
"""Answers of a server that ask for another try, beside those from 500 on."""

_NETWORK = ("requests", "urllib3", "httpx", "httpcore", "aiohttp", "huggingface_hub", "fsspec")
"""Libraries whose errors are those of a network."""


def passes(error: BaseException | None) -> bool:
    """Returns whether a read that failed with `error`, or because of it, may succeed when it is tried again."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", getattr(error, "status", None))
        if isinstance(status, int) and status >= 400:
            return status in _PASSING_STATUS or status >= 500
        if isinstance(error, ConnectionError | TimeoutError) or _of_a_network(error):
            return True
        if isinstance(error, OSError) and error.errno in _PASSING:
            return True
        error = error.__cause__ or error.__context__
    return False


def retrying(
    open_at: Callable[[int], Iterator[Item]],
    name: str,
    pauses: Sequence[float] = _PAUSES,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[Item]:
    """Yields all items of a source, which is opened again where a read failed.

    Args:
        open_at: function that opens the source at an item, counted from 0.
        name: name of the source, for messages.
        pauses: seconds to wait before each new try; the count begins anew with every item that comes.
        wait: function that waits for a number of seconds.

    Raises:
        CannotContinue: the last try failed too, or the server refuses. An error of ours stays what it is.
    """
    given = tries = 0
    while True:
        try:
            for item in open_at(given):
                given, tries = given + 1, 0
                yield item
            return
        except _errors_of_sources() as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300].rstrip(": ")
            if not passes(error) or (tries == len(pauses) and isinstance(error, DistsaeError)):
                if _of_a_network(error):
                    raise CannotContinue(f"{name} could not be read at item {given:,} ({reason})") from error
                raise
            if tries == len(pauses):
                raise CannotContinue(
                    f"{name} could not be read at item {given:,} in {tries + 1} tries ({reason}); start the same "
                    "command again when it answers"
                ) from error
            say(f"{name} could not be read at item {given:,} ({reason}); trying again in {pauses[tries]:g} s")
            wait(pauses[tries])
            tries += 1


def _errors_of_sources() -> tuple[type[Exception], ...]:
    """Returns what reading may raise; errors of libraries that are not loaded cannot have been raised."""
    bases = {"httpx": "HTTPError", "aiohttp": "ClientError", "datasets.exceptions": "DatasetsError"}
    loaded = [getattr(sys.modules[module], name) for module, name in bases.items() if module in sys.modules]
    return (OSError, RuntimeError, ValueError, EOFError, DistsaeError, *loaded)


def _of_a_network(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in _NETWORK
