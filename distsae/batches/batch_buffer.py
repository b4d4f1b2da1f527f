"""Memory of a few consecutive batches, which are filled together.

A batch takes so few rows from each file that reading one batch at a time would cost more in system calls than in bytes.
With a buffer, the rows of several batches are read from a file in one call, straight into one batch after the other. So
every batch is contiguous, and no row is copied twice.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from distsae.store.buffers import page_aligned

__all__ = ["BatchBuffer"]


class BatchBuffer:
    """Memory for up to `steps` consecutive batches, each with the rows of some streams.

    Args:
        steps: most batches that the buffer holds.
        streams: number of streams; they are numbered from 0 in the order of their rows in a batch.
        rows_per_stream: rows of each stream in a batch.
        d_in: width of a row.
        dtype: dtype of the rows.
        pages: function that returns so many bytes of memory, uint8, that begin at a page.
    """

    def __init__(
        self,
        steps: int,
        streams: int,
        rows_per_stream: int,
        d_in: int,
        dtype: torch.dtype,
        pages: Callable[[int], np.ndarray] = page_aligned,
    ) -> None:
        self._row_bytes = d_in * dtype.itemsize
        self._rows_per_stream = rows_per_stream
        memory = pages(steps * streams * rows_per_stream * self._row_bytes)
        self._batches = torch.from_numpy(memory).view(dtype).view(steps, -1, d_in)
        part_bytes = rows_per_stream * self._row_bytes
        self._parts = [
            [memory.data[(step * streams + index) * part_bytes :][:part_bytes] for step in range(steps)]
            for index in range(streams)
        ]
        self.nbytes = len(memory)
        self.first = 0
        self.last = 0

    def hold(self, first: int, last: int) -> None:
        """Sets which batches the buffer will hold: `[first, last)`."""
        self.first, self.last = first, last

    def batch(self, step: int) -> Tensor:
        """Returns the memory of a batch, `[rows, d_in]`."""
        return self._batches[step - self.first]

    @property
    def rows(self) -> int:
        """Rows of each stream in all batches of the buffer together."""
        return (self.last - self.first) * self._rows_per_stream

    def parts(self, index: int, start: int, stop: int) -> list[memoryview]:
        """Returns the memory of rows `[start, stop)` of the stream with this index, in order.

        The rows of a stream are counted through all batches of the buffer.
        """
        size = self._rows_per_stream
        if stop - start == self.rows:  # by far the most frequent case, so it takes no arithmetic
            return self._parts[index][: self.last - self.first]
        return [
            self._parts[index][step][
                max(start - step * size, 0) * self._row_bytes : (stop - step * size) * self._row_bytes
            ]
            for step in range(start // size, -(-stop // size))
        ]
