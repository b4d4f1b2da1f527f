"""Names that a file gives to other files: plain relative ones, so that none leads out of the folder it belongs to."""

from __future__ import annotations

import re

__all__ = ["is_plain", "shown"]

_LONGEST_NAME = 4096
_PART = r"(?!\.{1,2}(?:/|$))[^/\x00-\x1f\x7f]{1,255}"
_PLAIN_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_LONGEST_SHOWN = 80


def is_plain(name: str) -> bool:
    """Returns whether a name is one or more parts, separated by `/`, that lead to a file below a folder.

    No part is empty, `.` or `..`, or longer than file systems allow, and no character is a control character.
    """
    return len(name) <= _LONGEST_NAME and _PLAIN_NAME.fullmatch(name) is not None


def shown(value: object) -> str:
    """Returns a value from a file as text for an error: short, in one line, without control characters."""
    if isinstance(value, list | dict | tuple):  # its text could be as long as the file
        return f"{type(value).__name__} of {len(value)}" if value else f"empty {type(value).__name__}"
    if isinstance(value, int) and abs(value) >= 10**_LONGEST_SHOWN:
        return f"a number of {value.bit_length()} bits"
    text = ascii(value[: _LONGEST_SHOWN + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
