"""The errors that distsae raises on purpose.

The text of each is one line. `WrongInput` is for the user to correct and is raised before any expensive work.
`Diverged` ends a training for good. `CannotContinue`, `TornData` and `CheckpointFailed` report faults of the machine: a
disk, a network, a file. `distsae.exit_codes` has a code for each kind. Any other exception is a bug in distsae and
keeps its traceback.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

__all__ = [
    "CannotContinue",
    "CheckpointFailed",
    "DistsaeError",
    "Diverged",
    "NonFiniteScores",
    "TornData",
    "WrongInput",
    "is_lasting",
    "nearest",
]


class DistsaeError(Exception):
    """Base of every error that distsae raises on purpose; its text is one line.

    Attributes:
        of_all_ranks: True if every rank of a job raises the same error, so that one rank reports it for all.
        lasting: True if trying again is of no use until somebody has repaired something: see `is_lasting`.
    """

    of_all_ranks = False
    lasting = False


class WrongInput(DistsaeError):
    """The user asked for something that cannot be done: exit code 2.

    The text follows "`name` (=value) must ...; got ...; use ...".
    """

    of_all_ranks = True


class CannotContinue(DistsaeError):
    """This process met something that no check could foresee, a full disk for example: exit code 1.

    Other ranks may be healthy, so each rank reports its own.
    """


class TornData(DistsaeError):
    """A file on disk is not what its commit record promised; the text names the file."""


class CheckpointFailed(DistsaeError):
    """A checkpoint could not be read or written: a full disk, a lost folder; the text names the rank and the file."""

    of_all_ranks = True


class Diverged(DistsaeError):
    """Training produced a number that is not finite: exit code 3, because the same steps would end the same way."""

    of_all_ranks = True


class NonFiniteScores(Diverged):
    """The encoder produced infinities or NaNs; the text says how many and where."""


_LASTING = {
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ESTALE,
    errno.ENODEV,
    errno.ENXIO,
    errno.ENOTCONN,
}


def is_lasting(error: BaseException) -> bool:
    """Returns whether a write fails until somebody repairs something: a folder that is gone or has become read-only.

    A full disk does not count: it often has room again by itself.
    """
    if isinstance(error, DistsaeError):
        return error.lasting
    return isinstance(error, OSError) and error.errno in _LASTING


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the known name closest to `name`, or an empty string if none is close."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{match[0]}'?" if match else ""
