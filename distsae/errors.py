"""What distsae says when it cannot go on.

These are one line each. `WrongInput` is the user's to mend, before any expensive work; `Diverged` is the training's
end; the others are of the machine. `distsae.exit_codes` has a code for each kind. Anything else is a fault of ours and
keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["CannotContinue", "DistsaeError", "Diverged", "NonFiniteScores", "TornData", "WrongInput", "nearest"]


class DistsaeError(Exception):
    """Base of every error that distsae raises on purpose; its text is one line.

    Attributes:
        of_all_ranks: all ranks of a job raise it alike, and one of them need say so.
    """

    of_all_ranks = False


class WrongInput(DistsaeError):
    """The user asked for something that cannot be done: exit code 2.

    The text follows "`name` (=value) must ...; got ...; use ...".
    """

    of_all_ranks = True


class CannotContinue(DistsaeError):
    """This process met something that no check beforehand could see, a full disk for example: exit code 1.

    Other processes of the job may be well, so whichever rank it is says so itself.
    """


class TornData(DistsaeError):
    """A file on disk is not what its commit record promised; the text names the file."""


class Diverged(DistsaeError):
    """Training has left the finite numbers: exit code 3, since the same steps would end the same."""

    of_all_ranks = True


class NonFiniteScores(Diverged):
    """The encoder produced infinities or NaNs; the text names how many and where."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the known name closest to `name`, or an empty string if none is close."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{match[0]}'?" if match else ""
