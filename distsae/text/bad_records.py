"""Decides what becomes of a record without text: it ends the reading, or it is left out and counted."""

from __future__ import annotations

from distsae.errors import WrongInput
from distsae.progress import say

__all__ = ["BadRecords", "NoText"]

_SHOWN = 3


class NoText(str):
    """An empty text in place of a record that was left out, so that all others keep their numbers."""

    __slots__ = ()


class BadRecords:
    """Receives the records of a corpus that hold no text.

    Args:
        skip: whether such a record is left out; if not, it ends the reading. None if there is no choice, so that an
            error does not advise it.
    """

    def __init__(self, skip: bool | None = None) -> None:
        self._skip = skip
        self._said: set[str] = set()

    def instead(self, error: WrongInput) -> NoText:
        """Returns what stands for the record.

        Raises:
            WrongInput: records are not to be left out; this is `error`.
        """
        if self._skip is None:
            raise error
        if not self._skip:
            raise WrongInput(f"{error}, or --skip_bad_records") from error.__cause__
        if str(error) not in self._said and len(self._said) <= _SHOWN:  # read again, it is the same record
            say("more records are left out" if len(self._said) == _SHOWN else f"left out: {error}")
            self._said.add(str(error))
        return NoText()
