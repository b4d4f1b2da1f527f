"""A table of the page: a row for each setting or result, a column for each run."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cell", "Row"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value.

    Args:
        text: value as it is shown.
        detail: small text under the value: an interval or a difference.
        best: whether no other run is better; only set if several runs differ and one direction is better.
    """

    text: str
    detail: str = ""
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table.

    Args:
        label: name of the value.
        cells: cells of the runs, in their order.
        note: what the value means, in a few words.
        group: heading of the group of rows that this one starts; empty if it starts none.
    """

    label: str
    cells: tuple[Cell, ...]
    note: str = ""
    group: str = ""

    @property
    def shared(self) -> bool:
        """Whether all runs have the same value."""
        return len({(cell.text, cell.detail) for cell in self.cells}) == 1
