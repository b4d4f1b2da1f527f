"""The division of a shard's rows over the data ranks (ZeRO-1: Rajbhandari et al., arXiv 1910.02054).

Data ranks hold the same rows and know the same gradients. If each updates a part of the rows and sends the new ones to
the others, each needs Adam's moments of its part only. A part consists of whole blocks, because an update sums the
squares of the gradients, and what goes into the gradient of `b_dec`, block by block: given the sums of all blocks in
their order, every rank adds up the same numbers as one that updates all rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from distsae.collective import Collective

__all__ = ["SENT_BYTES", "RowDivision", "rows_of_a_rank"]

SENT_BYTES = {False: 1 << 20, True: 1 << 26}
"""Bytes that a rank sends at once, on a CPU and on a GPU, so that a copy of all rows is never needed. On a CPU, gloo's
threads leave some thirty messages of free memory with malloc, whatever their size; NCCL is fast with large ones."""


def rows_of_a_rank(rows: int, block_rows: int, ranks: int) -> int:
    """Returns how many rows a rank updates: the first ranks this many, the last ones fewer or none.

    Args:
        rows: number of rows of the shard.
        block_rows: rows of a block.
        ranks: number of ranks that divide the rows.
    """
    blocks = -(-rows // block_rows)
    return min(-(-blocks // ranks) * block_rows, rows)


class RowDivision:
    """The rows that this rank updates, and the exchange with the ranks that update the others.

    Args:
        ranks: ranks that hold the same rows and divide them; `Solo` if each rank updates all rows.
        rows: number of rows of the shard.
        block_rows: rows of a block, which is never divided.
        sent_bytes: bytes that a rank sends at once, or a row if that has more.

    Attributes:
        own: rows that this rank updates.
        own_blocks: number of blocks for which each rank keeps sums; the last ranks may have fewer.
    """

    def __init__(self, ranks: Collective, rows: int, block_rows: int, sent_bytes: int) -> None:
        self._ranks = ranks
        self._rows = rows
        self._most = rows_of_a_rank(rows, block_rows, ranks.size)
        self._blocks = -(-rows // block_rows)
        self._sent_bytes = sent_bytes
        self.own = self._of(ranks.rank)
        self.own_blocks = -(-self._most // block_rows)

    @property
    def is_divided(self) -> bool:
        """Whether there are ranks to divide the rows among, even if they are too few for all of them."""
        return self._ranks.size > 1

    def others(self, size: int) -> Iterator[tuple[int, int]]:
        """Yields the rows that other ranks update, `[first, last)`, at most `size` at a time."""
        for rank in range(self._ranks.size):
            if rank != self._ranks.rank:
                rows = self._of(rank)
                for first in range(rows.start, rows.stop, size):
                    yield first, min(first + size, rows.stop)

    def of_all_blocks(self, sums: Tensor) -> Tensor:
        """Returns what all ranks have summed for their blocks, in the order of the blocks. Collective if divided.

        Args:
            sums: sums of this rank's blocks, `[own_blocks, ...]`; entries after its last block are not used.
        """
        return self._ranks.stack(sums).flatten(0, 1)[: self._blocks]

    def of_all_rows(self, numbers: Tensor) -> Tensor:
        """Returns the numbers of all rows, in their order; only if blocks have one row. Collective if divided.

        Args:
            numbers: numbers of this rank's rows, `[len(own), ...]`.
        """
        return self.of_all_blocks(self._padded(numbers, self._most))

    @torch.no_grad()
    def exchange(self, rows: Tensor) -> None:
        """Replaces, in place, the rows that other ranks have updated by their new ones. Collective if divided.

        Args:
            rows: all rows of a parameter, `[rows, ...]`, of which this rank has updated `own`.
        """
        if not self.is_divided:
            return
        row_bytes = rows[:1].nbytes
        at_once = max(self._sent_bytes // max(row_bytes, 1), 1)
        for first in range(0, self._most, at_once):
            count = min(at_once, self._most - first)
            begin = min(self.own.start + first, self.own.stop)
            sent = self._padded(rows[begin : min(begin + count, self.own.stop)], count)
            for rank, received in enumerate(self._ranks.stack(sent)):
                if rank != self._ranks.rank:
                    place = self._of(rank)[first : first + count]
                    rows[place.start : place.stop] = received[: len(place)]

    def _of(self, rank: int) -> range:
        """Returns the rows that a rank updates."""
        return range(min(rank * self._most, self._rows), min((rank + 1) * self._most, self._rows))

    @staticmethod
    def _padded(rows: Tensor, count: int) -> Tensor:
        """Returns `count` rows that begin with the given ones."""
        if rows.shape[0] == count:
            return rows
        padded = rows.new_zeros((count, *rows.shape[1:]))
        padded[: rows.shape[0]] = rows
        return padded
