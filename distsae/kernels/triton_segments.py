"""Rows with many entries on a GPU: summed in segments of a fixed length, and the sums of segments added in their order.

One program walks over the entries of a row. Most rows have a few; a feature that matches thousands of tokens would hold
up the whole kernel. So a row with more than `SEGMENT` entries is cut into segments, counted from its first entry, which
programs of their own sum beforehand. What is summed in which order depends on the row's own entries alone.

No count has to be known for this, and no scan is needed. Cut all entries into windows of `SEGMENT`: no window holds the
start of more than two segments of long rows, since a long row that begins and ends in one window is none. One is of the
row that the window's first entry belongs to, the other of a row that begins within. So each window has two slots.

Import this module only where Triton is installed.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["SEGMENT", "segment_in", "slot_of", "slots_for"]

SEGMENT = 256
"""Entries of a segment. Rows with no more are summed as if there were no segments. The longest chain of sums in a batch
of 65536 tokens is that of 256 entries, or of 256 segments."""


def slots_for(entries: int) -> int:
    """Returns the number of slots for the segments of long rows; 0 if no row can be long."""
    return 2 * -(-entries // SEGMENT) if entries > SEGMENT else 0


@triton.jit  # type: ignore[untyped-decorator]
def slot_of(first: tl.tensor, start: tl.tensor, SEGMENT: tl.constexpr) -> tl.tensor:
    """Returns the slot of the segment that begins at entry `start`, of the row whose first entry is `first`."""
    window = start // SEGMENT
    return 2 * window + (first > window * SEGMENT).to(tl.int64)


@triton.jit  # type: ignore[untyped-decorator]
def _row_of(entry: tl.tensor, starts: tl.tensor, rows: int) -> tl.tensor:
    """Returns the last row that begins at or before an entry; -1 without one. Rows without entries are none."""
    low = entry * 0
    high = low + rows  # the number of rows that begin at or before the entry is in [low, high]
    while low < high:
        middle = (low + high) // 2
        before = tl.load(starts + middle) <= entry
        low = tl.where(before, middle + 1, low)
        high = tl.where(before, high, middle)
    return low - 1


@triton.jit  # type: ignore[untyped-decorator]
def segment_in(slot: tl.tensor, starts: tl.tensor, rows: int, SEGMENT: tl.constexpr) -> tuple[tl.tensor, tl.tensor]:
    """Returns the first entry of the segment in a slot, and its end; they are equal if the slot is empty.

    Args:
        slot: index of the slot, int64.
        starts: address of the index of each row's first entry, and at the end that of the last row's end, int64.
        rows: number of rows.
        SEGMENT: entries of a segment.
    """
    window = slot // 2 * SEGMENT
    begins_within = slot % 2
    # The row of the window's first entry, or the last row that begins in the window: others there are short.
    row = _row_of(window + begins_within * (SEGMENT - 1), starts, rows)
    exists = row >= 0
    row = tl.maximum(row, 0)
    first = tl.load(starts + row)
    last = tl.load(starts + row + 1)
    behind = tl.maximum(window - first, 0)
    start = first + (behind + SEGMENT - 1) // SEGMENT * SEGMENT
    right_kind = (first > window) == (begins_within > 0)
    holds = exists & right_kind & (last - first > SEGMENT) & (start < last) & (start < window + SEGMENT)
    end = tl.where(holds, tl.minimum(start + SEGMENT, last), start)
    return start, end
