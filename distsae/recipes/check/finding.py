"""What a part of the check found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Finding", "State"]

State = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Args:
        name: what was looked at.
        state: `ok`; `failed` if training would go wrong; `skipped` if it was not looked at.
        text: what was found, in words, or why it was skipped.
        figures: figures for programs, by name; the unit is part of the name.
    """

    name: str
    state: State
    text: str
    figures: Mapping[str, float | int | str] = field(default_factory=dict)
