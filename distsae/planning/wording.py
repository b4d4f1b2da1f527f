"""A memory plan as text: a table of its items with totals, and sizes in GiB."""

from __future__ import annotations

from collections.abc import Sequence

from distsae.planning.items import MOMENTS, Item, MemoryKind, Moment, bytes_at

__all__ = ["gib", "memory_table"]

_COLUMN_HEADS: dict[Moment, str] = {
    "start": "start",
    "select": "select",
    "update": "update",
    "save": "save",
    "freeze": "calibrate",
    "write": "write SAE",
}


def memory_table(items: Sequence[Item], where: MemoryKind) -> list[str]:
    """Returns the lines of a table in MiB: a line for each item, a column for each moment, totals at the end."""
    rows = [["MiB", *_COLUMN_HEADS.values()]]
    for item in items:
        if item.where == where and item.bytes:
            rows.append([item.name, *(_mib(item.bytes) if moment in item.when else "" for moment in MOMENTS)])
    rows.append(["total", *(_mib(bytes_at(items, moment, where)) for moment in MOMENTS)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for name, *cells in rows:
        right_aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *right_aligned]).rstrip())
    return lines


def gib(size: int) -> str:
    """Returns a size in GiB."""
    return f"{size / 2**30:.2f} GiB"


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f}" if size >= 10 << 20 else f"{size / 2**20:.1f}"
