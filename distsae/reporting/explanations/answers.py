"""What a language model's answers say; an answer that does not say it is None, never an error."""

from __future__ import annotations

import re

__all__ = ["MOST_CHARACTERS", "explanation_in", "judgements_in"]

MOST_CHARACTERS = 1000
"""Longest explanation; the rest is cut off."""

_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_MARKER = re.compile(r"EXPLANATION\W*:", re.IGNORECASE)
_LIST = re.compile(r"\[([^\[\]]*)\]")
_JUDGEMENTS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def explanation_in(answer: str) -> str | None:
    """Returns the explanation of an answer on one line: what follows the last `EXPLANATION:`, otherwise all of it.

    Thoughts in <think> are left out. None if nothing is left.
    """
    text = _MARKER.split(_THOUGHTS.sub("", answer))[-1]
    words = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return words.strip('*"` ')[:MOST_CHARACTERS].rstrip() or None


def judgements_in(answer: str, count: int) -> list[bool] | None:
    """Returns the judgements of an answer: those of its last list in brackets.

    Args:
        answer: the answer.
        count: number of judgements that were asked for.

    Returns:
        A value for each; None if there is no list, or one of another length or with other values.
    """
    lists = _LIST.findall(_THOUGHTS.sub("", answer))
    if not lists:
        return None
    words = [word.strip().strip("\"'").lower() for word in lists[-1].split(",")]
    if len(words) != count or any(word not in _JUDGEMENTS for word in words):
        return None
    return [_JUDGEMENTS[word] for word in words]
