"""Text as a terminal may get it, whoever it comes from."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Returns text as a terminal may get it: a control character from a stranger's file is written out, in hex digits.

    Only line ends and tabs stay. Bytes of a path that are no text are written out as well.
    """
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )
