"""Memory of a few consecutive batches, which are filled together.

A batch takes so few rows from each file that reading them one batch at a time would cost more in system calls than in
bytes. A block takes the rows of several batches from a file in one call, which puts them where they belong: into one
batch after the other. So every batch is contiguous, and no row is copied twice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.store.buffers import page_aligned

__all__ = ["BatchBuffer"]


class BatchBuffer:
    """Room for `steps` batches of the rows of some streams.

    Args:
        steps: most batches.
        streams: number of streams; a stream is known by its place among them.
        rows_per_stream: rows that each gives to a batch.
        d_in: width of a row.
        dtype: of the rows.
    """

    def __init__(self, steps: int, streams: int, rows_per_stream: int, d_in: int, dtype: torch.dtype) -> None:
        self._row_bytes, self._rows_per_stream = d_in * dtype.itemsize, rows_per_stream
        memory = page_aligned(steps * streams * rows_per_stream * self._row_bytes)
        self._batches = torch.from_numpy(memory).view(dtype).view(steps, -1, d_in)
        part = rows_per_stream * self._row_bytes
        self._parts = [
            [memory.data[(step * streams + place) * part :][:part] for step in range(steps)] for place in range(streams)
        ]
        self.nbytes = len(memory)
        self.first, self.last = 0, 0

    def hold(self, first: int, last: int) -> None:
        """Says which batches will be in the block: `[first, last)`."""
        self.first, self.last = first, last

    def batch(self, step: int) -> Tensor:
        """Returns the memory of a batch, `[rows, d_in]`."""
        return self._batches[step - self.first]

    @property
    def rows(self) -> int:
        """Rows that each stream gives to the block."""
        return (self.last - self.first) * self._rows_per_stream

    def parts(self, place: int, start: int, stop: int) -> list[memoryview]:
        """Returns where rows `[start, stop)` of what the stream at `place` gives to the block belong, in order."""
        size = self._rows_per_stream
        if stop - start == self.rows:  # nearly always, so let it be quick
            return self._parts[place][: self.last - self.first]
        return [
            self._parts[place][step][
                max(start - step * size, 0) * self._row_bytes : (stop - step * size) * self._row_bytes
            ]
            for step in range(start // size, -(-stop // size))
        ]
