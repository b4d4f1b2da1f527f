"""The errors that distsae raises on purpose.

The text of each is one line. `WrongInput` is for the user to correct and is raised before any expensive work.
`Diverged` ends a training for good. `CannotContinue`, `TornData` and `CheckpointFailed` report faults of the machine: a
disk, a network, a file. `distsae.exit_codes` has a code for each kind. Any other exception is a bug in distsae and
keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CannotContinue",
    "CheckpointFailed",
    "DistsaeError",
    "Diverged",
    "NonFiniteScores",
    "TornData",
    "WrongInput",
    "nearest",
]


class DistsaeError(Exception):
    """Base of every error that distsae raises on purpose; its text is one line.

    Attributes:
        of_all_ranks: True if every rank of a job raises the same error, so that one rank reports it for all.
    """

    of_all_ranks = False


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


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the known name closest to `name`, or an empty string if none is close."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{match[0]}'?" if match else ""
