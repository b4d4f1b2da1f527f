"""The checksum of every file of a store, and how a chunk carries its own.

Zarr's codec `crc32c` appends the checksum of a chunk's payload to the chunk, as `TRAILER` little-endian bytes.
"""

from __future__ import annotations

import google_crc32c
import numpy as np

__all__ = ["TRAILER", "crc32c", "trailer_of"]

TRAILER = 4
"""Length of the checksum at the end of a chunk, in bytes."""


def crc32c(data: bytes | np.ndarray, before: int = 0) -> int:
    """Returns the CRC-32C of some data.

    Args:
        data: bytes, or a contiguous uint8 array.
        before: CRC-32C of the data that precedes `data`, to continue from; 0 if there is none.
    """
    if isinstance(data, np.ndarray):
        data = data.view()
        data.flags.writeable = False  # google_crc32c takes only read-only buffers
    return int(google_crc32c.extend(before, data))


def trailer_of(checksum: int) -> bytes:
    """Returns the bytes that a chunk with this payload checksum ends with."""
    return checksum.to_bytes(TRAILER, "little")
