"""A memory plan as people read it: a table, its totals, and what fits."""

from __future__ import annotations

from collections.abc import Sequence

from distsae.planning.items import MOMENTS, Item, MemoryKind, Moment, at

__all__ = ["gib", "memory_table"]

_HEADS: dict[Moment, str] = {
    "start": "start",
    "select": "select",
    "update": "update",
    "save": "save",
    "freeze": "calibrate",
    "write": "write SAE",
}


def memory_table(items: Sequence[Item], where: MemoryKind) -> list[str]:
    """Returns the lines of a table in MiB: an item a line, a moment of the run a column, totals below."""
    rows = [["MiB", *_HEADS.values()]]
    for item in items:
        if item.where == where and item.bytes:
            rows.append([item.name, *(_mib(item.bytes) if moment in item.when else "" for moment in MOMENTS)])
    rows.append(["together", *(_mib(at(items, moment, where)) for moment in MOMENTS)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]


def gib(size: int) -> str:
    """Returns a size in GiB."""
    return f"{size / 2**30:.2f} GiB"


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f}" if size >= 10 << 20 else f"{size / 2**20:.1f}"
