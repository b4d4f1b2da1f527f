"""Memory to read files into, aligned so that the kernel copies at full speed.

The page cache holds file data in whole pages. When a buffer's offset within its page is a few bytes ahead of the data's
offset within its own (memory from `malloc` begins 16 bytes into a page), the processor takes each load for one that
depends on a recent store, and the same `preadv` runs at a quarter of the speed. So buffers begin at a page, and data
from the middle of a file go to the same offset within a page.
"""

from __future__ import annotations

import mmap

import numpy as np

__all__ = ["page_aligned", "part_aligned_with_file", "size_for_any_offset"]


def page_aligned(size: int) -> np.ndarray:
    """Returns `size` bytes of memory, uint8, that begin at a page."""
    memory = np.empty(size + mmap.PAGESIZE, np.uint8)
    skipped = -memory.ctypes.data % mmap.PAGESIZE
    return memory[skipped : skipped + size]


def size_for_any_offset(size: int) -> int:
    """Returns how long a buffer must be so that `part_aligned_with_file` finds `size` bytes in it for any offset."""
    return size + mmap.PAGESIZE


def part_aligned_with_file(buffer: np.ndarray, offset: int, size: int) -> np.ndarray:
    """Returns the part of a page-aligned buffer to read `size` bytes into that begin at byte `offset` of a file."""
    shift = offset % mmap.PAGESIZE
    return buffer[shift : shift + size]
