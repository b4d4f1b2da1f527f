"""A table of the page: rows are keys, columns are runs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cell", "Row"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value.

    Args:
        text: the value in words.
        detail: smaller, under it: an interval or a difference.
        best: whether no other run does better; only set where there is a better and a worse, and several runs.
    """

    text: str
    detail: str = ""
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table.

    Args:
        label: what the value is.
        note: what it means, in a few words.
        cells: one for each run.
        group: starts a new group with this heading, if not empty.
    """

    label: str
    cells: tuple[Cell, ...]
    note: str = ""
    group: str = ""

    @property
    def shared(self) -> bool:
        """Whether all runs have the same value."""
        return len({(cell.text, cell.detail) for cell in self.cells}) == 1
