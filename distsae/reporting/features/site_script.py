"""Data of the site as scripts, which a page from a disk can read where it cannot read JSON."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["EXPLANATIONS_CALL", "EXPLANATIONS_SCRIPT", "data_script"]

EXPLANATIONS_SCRIPT = "data/explanations.js"
"""Explanations of features in words; empty until `distsae explain` writes them."""

EXPLANATIONS_CALL = "distsaeExplanations("


def data_script(call: str, content: dict[str, Any]) -> bytes:
    """Returns a script that passes JSON to a function, ASCII alone, without what could end a script or open a tag.

    Args:
        call: name of the function with its opening bracket, and arguments that come before the JSON.
        content: the JSON.
    """
    encoded = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return f"{call}{encoded.replace('<', chr(92) + 'u003c')})\n".encode()
