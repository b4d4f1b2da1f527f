"""JSON from others: at most so many bytes and values, and every way in which it can be wrong is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distsae.checked_files.plain_names import shown
from distsae.checked_files.regular_files import read_regular
from distsae.errors import DistsaeError, TornData

__all__ = ["MOST_BYTES", "parse_json", "read_json_object"]

MOST_BYTES = 128 << 20
"""Largest JSON file that is read. The commit record of a unit with dozens of wide hooks has some tens of megabytes."""

_DEEPEST = 100
_MOST_VALUES = 4_000_000
"""Most values in a file: each takes some 70 bytes in memory, and may take two in the file."""


def parse_json(content: bytes | str, where: object, error: type[DistsaeError] = TornData) -> Any:  # noqa: ANN401
    """Returns the value that JSON text describes.

    Args:
        content: the text, in UTF-8.
        where: file that it is from, for the error.
        error: class of the error.

    Raises:
        DistsaeError: it is not JSON, or has too many values; of class `error`.
    """
    encoded = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    if encoded.count(b"[") + encoded.count(b"{") + encoded.count(b",") > _MOST_VALUES:
        raise error(f"{where} must have at most {_MOST_VALUES:,} values; got more")
    try:
        value = json.loads(content)
    except RecursionError:
        raise error(f"{where} is nested too deeply") from None
    except ValueError as reason:
        raise error(f"{where} is not valid JSON: {reason}") from None
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, (list, dict))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (list, dict))
        ]
    if level:
        raise error(f"{where} is nested too deeply, in more than {_DEEPEST} levels")
    return value


def read_json_object(file: Path, error: type[DistsaeError] = TornData, most: int = MOST_BYTES) -> dict[str, Any]:
    """Returns the content of a JSON file that holds an object.

    Args:
        file: file to read.
        error: class of the error.
        most: largest size in bytes.

    Raises:
        FileNotFoundError: there is no such file.
        DistsaeError: it is not a regular file, is too large, or holds no JSON object; of class `error`.
    """
    content = parse_json(read_regular(file, most, error=error), file, error)
    if not isinstance(content, dict):
        raise error(f"{file} must be a JSON object; got {shown(content)}")
    return content
